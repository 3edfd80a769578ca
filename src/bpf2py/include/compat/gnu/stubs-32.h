/* SPDX-License-Identifier: MIT */
/*
 * glibc's headers take the BPF target for a 32-bit one and ask for this file, which is only there where 32-bit programs
 * can be built. It lists functions that glibc lacks: BPF programs call none.
 */
