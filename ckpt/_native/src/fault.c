/* SPDX-License-Identifier: GPL-2.0-only */
#include "native.h"

#include <signal.h>
#include <stdlib.h>

static long left;
static long passed;
static const char *held;

__attribute__((constructor)) static void arm_from_environment(void)
{
        const char *at = getenv("CKPT_FAULT_KILL_AT");

        if (at)
                left = atol(at);
        held = getenv("CKPT_FAULT_HOLD_PAGES");
}

void ckpt_fault_arm(long at)
{
        left = at;
}

long ckpt_fault_passed(void)
{
        return passed;
}

void ckpt_fault_point(void)
{
        passed++;
        if (left > 0 && --left == 0)
                kill(getpid(), SIGKILL);
}

int ckpt_fault_held(void)
{
        return held && access(held, F_OK) == 0;
}
