/* SPDX-License-Identifier: GPL-2.0-only */
#include "native.h"

#include <cpuid.h>

void ckpt_cpuid(uint32_t leaf, uint32_t subleaf, struct ckpt_cpuid *out)
{
        __cpuid_count(leaf, subleaf, out->eax, out->ebx, out->ecx, out->edx);
}

uint64_t ckpt_xcr0(void)
{
        struct ckpt_cpuid one;
        uint32_t low, high;

        ckpt_cpuid(1, 0, &one);
        if (!(one.ecx & bit_OSXSAVE))
                return 0;
        __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
        return (uint64_t)high << 32 | low;
}
