/* SPDX-License-Identifier: GPL-2.0-only
 *
 * The compiler's way into wire.h: its guard, its types and its layout, asserted.
 */
#ifndef CKPT_WIRE_CHECK_H
#define CKPT_WIRE_CHECK_H

#include <stddef.h>
#include <stdint.h>

#include "wire.h"

#ifndef CKPT_WIRE_HASH
#error "CKPT_WIRE_HASH comes from the build: the hash of wire.h"
#endif

_Static_assert(sizeof(struct ckpt_blob_header) == 48, "header");
_Static_assert(offsetof(struct ckpt_blob_header, entry) == 24, "header.entry");
_Static_assert(sizeof(struct ckpt_session) == 64, "session");
_Static_assert(offsetof(struct ckpt_session, stack_top) == 24, "used by head.S");
_Static_assert(offsetof(struct ckpt_session, leave_to) == 32, "used by head.S");
_Static_assert(offsetof(struct ckpt_session, sock) == 48, "used by ckpt/infect/batch.py");
_Static_assert(offsetof(struct ckpt_session, lent_fd) == 56, "used by ckpt/infect/batch.py");
_Static_assert(offsetof(struct ckpt_session, told) == 60, "used by stub.S");
_Static_assert(sizeof(struct ckpt_entry) == 80, "entry");
_Static_assert(sizeof(struct ckpt_batch) == 16, "batch");
_Static_assert(sizeof(struct ckpt_command) == 16, "command");
_Static_assert(sizeof(struct ckpt_reply) == 16, "reply");
_Static_assert(sizeof(struct ckpt_hello) == 32, "hello");
_Static_assert(sizeof(struct ckpt_seed_window) == 24, "seed window");

#endif
