/* A library with one USDT probe, tests:called, of two arguments: in a register and on the stack. */
void call_probe(int first, long second)
{
    volatile long kept = second;

    __asm__ __volatile__("990: nop\n"
                         ".pushsection .note.stapsdt,\"\",\"note\"\n"
                         ".balign 4\n"
                         ".4byte 992f-991f, 994f-993f, 3\n"
                         "991: .asciz \"stapsdt\"\n"
                         "992: .balign 4\n"
                         "993: .8byte 990b\n"
                         ".8byte _.stapsdt.base\n"
                         ".8byte 0\n"
                         ".asciz \"tests\"\n"
                         ".asciz \"called\"\n"
                         ".asciz \"-4@%w0 8@%1\"\n"
                         "994: .balign 4\n"
                         ".popsection\n"
                         ".pushsection .stapsdt.base,\"aG\",\"progbits\",.stapsdt.base,comdat\n"
                         ".weak _.stapsdt.base\n"
                         ".hidden _.stapsdt.base\n"
                         "_.stapsdt.base: .space 1\n"
                         ".size _.stapsdt.base, 1\n"
                         ".popsection\n"
                         :
                         : "r"(first), "m"(kept));
}
