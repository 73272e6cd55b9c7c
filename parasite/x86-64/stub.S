/* SPDX-License-Identifier: GPL-2.0-only
 *
 * The code that is entered first in a live target.
 */
stub:
stub_return:
        ud2
stub_end:
