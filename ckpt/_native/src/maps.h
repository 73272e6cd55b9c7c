/* SPDX-License-Identifier: GPL-2.0-only
 *
 * /proc/PID/maps where Python would be too slow: between rounds, thousands of lines each time.
 */

/* The private mappings without a file, which show no page of one: to look for those costs more than
 * all else that a scan of pagemap does. `maps` is /proc/PID/maps, read from its beginning. Stores
 * the ranges in `*out` and returns their number. */
long ckpt_find_anonymous(int maps, struct ckpt_extent **out);
