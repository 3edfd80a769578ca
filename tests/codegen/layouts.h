/* Layouts C compilers and Python must agree on; test_layouts.py names their members. */
typedef unsigned short chain1;
typedef chain1 chain2;
typedef const chain2 chain3;

struct bitfields {
    unsigned a : 3;
    int b : 5;
    unsigned long long c : 40;
    unsigned char d;
};
struct packed {
    char a;
    long long b;
    short c;
} __attribute__((packed));
struct unions {
    int tag;
    union {
        int number;
        char text[8];
        struct {
            short low, high;
        };
    };
};
struct flexible {
    int count;
    short rest[0];
};
struct wide_enum {
    enum wide { SMALL = -1, LARGE = 1LL << 40 } value;
    char tail;
};
struct nested_arrays {
    short table[2][3][4];
    struct {
        char c;
        int i;
    } many[2];
};
struct aligned {
    char a;
    int b __attribute__((aligned(16)));
    char c;
};
struct zero_size {
    struct {
    } nothing;
    int a;
    char none[0];
    short b;
};
struct typedefs {
    chain3 number;
    const volatile chain2 other;
    char pad;
};
struct pointers {
    void *one;
    struct pointers *self;
    void *args;
    int (*call)(int);
    char **names[2];
};
struct odd {
    _Bool yes;
    float small;
    double large;
    __int128 huge;
    unsigned __int128 more;
    char last;
};
typedef struct {
    char first;
    struct {
        short s;
        long long wide;
    } inner;
    union {
        int number;
        char text[6];
    } either;
    enum { NONE, ONE } how;
    char last;
} unnamed_t;
typedef union {
    char text[5];
    struct {
        short low;
        int high;
    } pair;
} either_t;
typedef struct __attribute__((packed)) {
    unnamed_t one;
    either_t two[2];
    short last;
} combined_t;
