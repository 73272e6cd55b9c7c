/* SPDX-License-Identifier: GPL-2.0-only
 *
 * Where tests have the controller die: before each request that changes something in a target. One
 * counter; nothing happens unless CKPT_FAULT_KILL_AT or ckpt_fault_arm() has set it.
 */

/* Kill this process with SIGKILL at the `at`-th point from now on; 0: never. */
void ckpt_fault_arm(long at);

/* How many points this process has passed. */
long ckpt_fault_passed(void);

void ckpt_fault_point(void);

/* Whether the file that CKPT_FAULT_HOLD_PAGES named at the start exists: the server of missing
 * pages then brings those that are waited for and those of the working set, and no others. */
int ckpt_fault_held(void);
