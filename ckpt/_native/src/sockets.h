/* SPDX-License-Identifier: GPL-2.0-only
 *
 * Looking into the receive queue of a UNIX socket that somebody else uses.
 */

#define CKPT_ADDRESS_MAX 112

/* One message: `len` bytes at `at` of the buffer. `has_cred`: the socket has SO_PASSCRED, and these
 * are the sender's. `address`: a sockaddr_un of `address_len` bytes, what recvfrom(2) would say. */
struct ckpt_message {
        uint64_t at;
        uint64_t len;
        uint32_t has_cred;
        int32_t pid;
        uint32_t uid;
        uint32_t gid;
        uint32_t address_len;
        uint8_t address[112];
};

/* Copy every message in the queue of `fd` to `buffer` and `messages`, and leave all there.
 * `wanted`: the bytes that are in it, behind which nothing is read any more, or -1: until it is
 * empty. An error that is pending would be taken away by reading behind the end, of a datagram
 * socket by reading at all.
 *
 * The way is SO_PEEK_OFF, which belongs to the socket and must be as it was afterwards, even if
 * this process is killed: the work is done by a short-lived process that shares our memory and
 * descriptors. A queue that does not fit: -ENOBUFS. Descriptors in flight are left out, which a
 * caller must exclude. Returns the number of messages. */
long ckpt_peek_queue(int fd, uint8_t *buffer, uint64_t size, struct ckpt_message *messages,
                     uint64_t nr, int64_t wanted);
