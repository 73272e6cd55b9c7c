/* SPDX-License-Identifier: GPL-2.0-only
 *
 * What the processor says of itself, on whatever CPU the caller happens to run.
 */

struct ckpt_cpuid {
        uint32_t eax;
        uint32_t ebx;
        uint32_t ecx;
        uint32_t edx;
};

/* One leaf. A leaf beyond the highest one gives another leaf's words: ask 0 or 0x80000000 first. */
void ckpt_cpuid(uint32_t leaf, uint32_t subleaf, struct ckpt_cpuid *out);

/* XCR0: the state components that the kernel has enabled; 0 where there is no XSAVE. */
uint64_t ckpt_xcr0(void);
