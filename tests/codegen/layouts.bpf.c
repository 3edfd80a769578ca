#include "layouts.h"

struct bitfields *keep_bitfields;
struct packed *keep_packed;
struct unions *keep_unions;
struct flexible *keep_flexible;
struct wide_enum *keep_wide_enum;
struct nested_arrays *keep_nested_arrays;
struct aligned *keep_aligned;
struct zero_size *keep_zero_size;
struct typedefs *keep_typedefs;
struct pointers *keep_pointers;
struct odd *keep_odd;
unnamed_t *keep_unnamed_t;
either_t *keep_either_t;
combined_t *keep_combined_t;
char LICENSE[] __attribute__((section("license"), used)) = "GPL";
