// SPDX-License-Identifier: MIT

// Command peer measures cilium/ebpf for table.py: each call is a fresh process, and prints a JSON object of numbers.
//
//	peer first_read OBJECT         from main() to the first value of my_array_map
//	peer load OBJECT               the best of five loads after the first
//	peer drain ring|perf FD COUNT  records of a map somebody else fills: says "ready", waits for a line, reads them all
//	peer maps COUNT                nanoseconds of single operations, and of an element of a batch
package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"log"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/perf"
	"github.com/cilium/ebpf/ringbuf"
)

const perfPages = 4096

func must(err error) {
	if err != nil {
		log.Fatal(err)
	}
}

func number(text string) int {
	found, err := strconv.Atoi(text)
	must(err)
	return found
}

func milliseconds(start time.Time) float64 {
	return float64(time.Since(start).Nanoseconds()) / 1e6
}

// peak is the most memory the process has had, in MiB.
func peak() float64 {
	data, err := os.ReadFile("/proc/self/status")
	must(err)
	for _, line := range strings.Split(string(data), "\n") {
		if strings.HasPrefix(line, "VmHWM:") {
			return float64(number(strings.Fields(line)[1])) / 1024
		}
	}
	return 0
}

func load(path string) *ebpf.Collection {
	spec, err := ebpf.LoadCollectionSpec(path)
	must(err)
	collection, err := ebpf.NewCollection(spec)
	must(err)
	return collection
}

func firstRead(start time.Time, path string) map[string]float64 {
	var value uint32
	must(load(path).Maps["my_array_map"].Lookup(uint32(0), &value))
	return map[string]float64{"ms": milliseconds(start), "mib": peak()}
}

func loads(path string) map[string]float64 {
	best := 0.0
	for round := 0; round < 6; round++ {
		start := time.Now()
		collection := load(path)
		took := milliseconds(start)
		collection.Close()
		if round == 1 || (round > 1 && took < best) {
			best = took
		}
	}
	return map[string]float64{"ms": best}
}

func drain(kind string, fd, count int) map[string]float64 {
	events, err := ebpf.NewMapFromFD(fd)
	must(err)
	var read func()
	filled := func() {
		fmt.Println("ready")
		_, err := bufio.NewReader(os.Stdin).ReadString('\n')
		must(err)
	}
	if kind == "ring" {
		filled() // without waking anybody: a reader that waited before would not see it
	}
	start := time.Now()
	if kind == "ring" {
		reader, err := ringbuf.NewReader(events)
		must(err)
		var record ringbuf.Record
		read = func() { must(reader.ReadInto(&record)) }
	} else {
		reader, err := perf.NewReader(events, perfPages*os.Getpagesize())
		must(err)
		var record perf.Record
		read = func() {
			must(reader.ReadInto(&record))
			if record.LostSamples != 0 {
				log.Fatal("records were lost")
			}
		}
	}
	ready := milliseconds(start)
	if kind != "ring" {
		filled()
	}
	start = time.Now()
	for i := 0; i < count; i++ {
		read()
	}
	return map[string]float64{"mps": float64(count) / milliseconds(start) / 1e3, "ready_ms": ready}
}

func maps(entries int) map[string]float64 {
	counts, err := ebpf.NewMap(&ebpf.MapSpec{Type: ebpf.Hash, KeySize: 4, ValueSize: 4, MaxEntries: uint32(entries)})
	must(err)
	keys, values := make([]uint32, entries), make([]uint32, entries)
	best := map[string]float64{}
	measure := func(name string, run func()) {
		start := time.Now()
		run()
		took := milliseconds(start) * 1e6 / float64(entries)
		if old, ok := best[name]; !ok || took < old {
			best[name] = took
		}
	}
	for key := range keys {
		keys[key], values[key] = uint32(key), uint32(key+1)
	}
	_, err = counts.BatchUpdate(keys, values, nil)
	must(err)
	for round := 0; round < 3; round++ {
		measure("lookup_batch", func() { lookUp(counts, keys, values) })
		if entries > 100000 {
			continue
		}
		measure("update", func() {
			for i := 0; i < entries; i++ {
				key, value := uint32(i), uint32(i+1)
				must(counts.Update(&key, &value, ebpf.UpdateAny))
			}
		})
		measure("lookup", func() {
			for i := 0; i < entries; i++ {
				key, value := uint32(i), uint32(0)
				must(counts.Lookup(&key, &value))
			}
		})
	}
	return best
}

// lookUp reads all elements in batches.
func lookUp(counts *ebpf.Map, keys, values []uint32) {
	var next uint32
	for seen := 0; seen < len(keys); {
		var previous interface{}
		if seen > 0 {
			previous = next
		}
		got, err := counts.BatchLookup(previous, &next, keys[seen:], values[seen:], nil)
		seen += got
		if err != nil && seen < len(keys) {
			log.Fatal(err)
		}
	}
}

func main() {
	start := time.Now()
	log.SetFlags(0)
	log.SetPrefix("peer: ")
	if len(os.Args) < 3 {
		log.Fatal("usage: peer first_read|load|maps|drain ARGUMENT...")
	}
	var found map[string]float64
	switch arguments := os.Args[2:]; os.Args[1] {
	case "first_read":
		found = firstRead(start, arguments[0])
	case "load":
		found = loads(arguments[0])
	case "drain":
		found = drain(arguments[0], number(arguments[1]), number(arguments[2]))
	case "maps":
		found = maps(number(arguments[0]))
	default:
		log.Fatalf("no such thing to measure: %s", os.Args[1])
	}
	must(json.NewEncoder(os.Stdout).Encode(found))
}
