/* A full x87 stack and its control word, held across a blocking call. */
#include "victim.h"

static uint16_t control = 0x0c7f; /* double precision is 0x200, towards zero 0xc00: here single */

int main(void)
{
        uint16_t found_control;
        double found[8];

        asm volatile("fninit\n fldcw %0\n" ::"m"(control));
        asm volatile("fld1\n fldpi\n fldl2e\n fldln2\n fldlg2\n fldl2t\n fldz\n fld1\n");
        /* No floating point below: ready_and_wait() only opens and writes. */
        ready_and_wait();
        asm volatile("fnstcw %0\n" : "=m"(found_control));
        CHECK(found_control == control);
        asm volatile(
            "fstpl 0(%0)\n fstpl 8(%0)\n fstpl 16(%0)\n fstpl 24(%0)\n"
            "fstpl 32(%0)\n fstpl 40(%0)\n fstpl 48(%0)\n fstpl 56(%0)\n fninit\n" ::"r"(found)
            : "memory");
        const double expected[8] = {1, 0, 3.32, 0.301, 0.693, 1.4426, 3.14159, 1};
        for (int i = 0; i < 8; i++)
                CHECK(found[i] > expected[i] - 0.01 && found[i] < expected[i] + 0.01);
        pass();
}
