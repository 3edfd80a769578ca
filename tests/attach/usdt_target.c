// SPDX-License-Identifier: MIT
/* A program with USDT probes, whose notes are written here by hand: it fires all of them once for each byte it reads. */
#include <unistd.h>

#define TEXT(...) TEXT_(__VA_ARGS__)
#define TEXT_(...) #__VA_ARGS__

/* A note of version 3: addresses of probe, base section and semaphore, then provider, name and argument specs */
#define NOTE(name, semaphore, args)                                                              \
    "990: nop\n"                                                                                 \
    ".pushsection .note.stapsdt,\"\",%%note\n"                                                   \
    ".balign 4\n"                                                                                \
    ".4byte 992f-991f, 994f-993f, 3\n"                                                           \
    "991: .asciz \"stapsdt\"\n"                                                                  \
    "992: .balign 4\n"                                                                           \
    "993: .8byte 990b, _.stapsdt.base, " semaphore "\n"                                          \
    ".asciz \"demo\"\n.asciz \"" name "\"\n.asciz \"" args "\"\n"                                \
    "994: .balign 4\n"                                                                           \
    ".popsection\n"                                                                              \
    ".ifndef _.stapsdt.base\n"                                                                   \
    ".pushsection .stapsdt.base,\"aG\",%%progbits,.stapsdt.base,comdat\n"                        \
    ".weak _.stapsdt.base\n.hidden _.stapsdt.base\n"                                             \
    "_.stapsdt.base: .space 1\n.size _.stapsdt.base, 1\n"                                        \
    ".popsection\n"                                                                              \
    ".endif\n"

__attribute__((section(".probes"), used)) volatile unsigned short demo_heeded_semaphore;

struct numbers {
    long first, second;
    short more[4];
};

#if defined(__x86_64__)
#define ARGS "-4@%%edi 8@%%rsi -4@$-7 8@8(%%rdx) -2@16(%%rdx,%%rcx,2) 1@%%sil"
#define STACK(name) "push %%rdi\npush %%rsi\n" NOTE(name, "0", "8@8(%%rsp) 8@(%%rsp)") "pop %%rsi\npop %%rdi\n"
#define IN(a, b, c, d) "D"((long)(a)), "S"((long)(b)), "d"(c), "c"((long)(d))
#define FIRST "-4@%%edi"
#define FIVE "-4@$5"
#elif defined(__aarch64__)
#define ARGS "-4@w0 8@x1 -4@-7 8@[x2, 8] -2@[x2, x3, lsl 1] 1@w1"
#define STACK(name) "stp x1, x0, [sp, -16]!\n" NOTE(name, "0", "8@[sp, 8] 8@[sp]") "ldp x1, x0, [sp], 16\n"
#define FIRST "-4@w0"
#define FIVE "-4@5"
#endif

__attribute__((noinline)) static void fire(int a, unsigned long b, const struct numbers *numbers, long index)
{
#if defined(__aarch64__)
    register long x0 asm("x0") = a, x1 asm("x1") = b, x3 asm("x3") = index + 8;
    register const struct numbers *x2 asm("x2") = numbers;
#undef IN
#define IN(a, b, c, d) "r"(x0), "r"(x1), "r"(x2), "r"(x3)
#endif
    asm volatile(NOTE("plain", "0", ARGS) : : IN(a, b, numbers, index) : "memory");
    asm volatile(NOTE("none", "0", "") : : : "memory");
    asm volatile(STACK("stack") : : IN(a, b, numbers, index) : "memory");
    asm volatile(NOTE("twice", "0", FIRST) : : IN(a, b, numbers, index) : "memory");
    asm volatile(NOTE("twice", "0", FIVE) : : : "memory");
    if (demo_heeded_semaphore)
        asm volatile(NOTE("heeded", "demo_heeded_semaphore", FIRST) : : IN(a, b, numbers, index) : "memory");
    asm volatile(NOTE("odd", "0", "8f@%%xmm0") : : : "memory");
}

int main(void)
{
    struct numbers numbers = {11, 0x1122334455667788, {1, 2, -3, 4}};
    char byte;

    while (read(0, &byte, 1) == 1) {
        fire(-byte, 0xffffffffffffff80UL + byte, &numbers, 2);
        byte = '0' + demo_heeded_semaphore;
        if (write(1, &byte, 1) != 1)
            return 1;
    }
    return 0;
}
