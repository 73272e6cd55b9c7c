/* SPDX-License-Identifier: GPL-2.0-only
 *
 * Pages for whoever asks for them over a stream: the lazy side of a page server. The messages are
 * those of ckpt/images/pageserver/protocol.py, in either layout.
 */

/* Pages from `start` to `end` of the image of task `image`, from `offset` on in `lfd`: a file of
 * pages, or /proc/PID/mem of a task that stands. */
struct ckpt_held {
        uint64_t image;
        uint64_t start;
        uint64_t end;
        uint64_t offset;
        int32_t lfd;
        int32_t reserved;
};

/* How far it is; another thread may look at it meanwhile. */
struct ckpt_answered {
        uint64_t nr_requests;
        uint64_t nr_bytes;
};

/* Answer every GET on `sock` until the other side takes its leave; then 0. `held` ascends by image
 * and start and does not overlap. A request is answered with as many of its pages as there are from
 * its first on without a gap, none included. Blocks; shutdown(2) by another thread ends it.
 *
 * -ECONNRESET: the stream ended without a leave. -EPROTO: what came is no request. -ENODATA: pages
 * that should be there could not be read; the stream is shut down then, in the midst of an answer,
 * so that nobody takes anything else for them. Else what the stream gave. */
long ckpt_answer(int sock, const struct ckpt_held *held, uint64_t nr, struct ckpt_answered *done);
