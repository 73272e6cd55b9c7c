/* SPDX-License-Identifier: GPL-2.0-only
 *
 * Looking into the receive queue of a UNIX socket that somebody else uses.
 */

#define CKPT_ADDRESS_MAX 112

#define CKPT_RIGHTS_MAX 253

/* One message: `len` bytes at `at` of the buffer. `has_cred`: the socket has SO_PASSCRED, and these
 * are the sender's. `address`: a sockaddr_un of `address_len` bytes, what recvfrom(2) would say.
 * `nr_rights`: how many descriptors come with its first byte. */
struct ckpt_message {
        uint64_t at;
        uint64_t len;
        uint32_t has_cred;
        int32_t pid;
        uint32_t uid;
        uint32_t gid;
        uint32_t address_len;
        uint32_t nr_rights;
        uint8_t address[112];
};

/* Where a queue is copied to. Nothing is read behind `wanted` bytes, or -1: it is read until it is
 * empty. An error that is pending would be taken away by reading behind the end, of a datagram
 * socket by reading at all. `rights`: duplicates of all descriptors in flight, in order, which are
 * the caller's; `nr_rights` of the `max_rights` that there is room for. */
struct ckpt_queue {
        uint8_t *buffer;
        uint64_t size;
        struct ckpt_message *messages;
        uint64_t nr;
        int64_t wanted;
        int32_t *rights;
        uint32_t max_rights;
        uint32_t nr_rights;
};

/* Copy every message in the queue of `fd`, and leave all there. Returns their number.
 *
 * The way is SO_PEEK_OFF, which belongs to the socket and must be as it was afterwards, even if
 * this process is killed: the work is done by a short-lived process that shares our memory and
 * descriptors. Of a stream, what was sent without descriptors is no message together with what was
 * sent with some: these come with their own first byte. A queue that does not fit: -ENOBUFS; after
 * an error no duplicate is left. */
long ckpt_peek_queue(int fd, struct ckpt_queue *queue);

/* Ask `fd` for `nr` options: level and name of each are two numbers of `keys`. `lengths` gets the
 * bytes of each value, or -errno; the values, at most 256 bytes each, stand one behind the other in
 * `data`. Returns the bytes used of it; -ENOBUFS if `size` has no room for one more. */
long ckpt_get_options(int fd, const int32_t *keys, uint64_t nr, int32_t *lengths, uint8_t *data,
                      uint64_t size);
