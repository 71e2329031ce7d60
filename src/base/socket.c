/*
 * socket.c - local sockets with framed messages.
 *
 *   frame    u32     length of the rest, big-endian, at most 64 KiB
 *            bytes   fields, each ended by a NUL
 *
 * A path too long for sockaddr_un is reached through its directory's descriptor.
 */
#include "walagent/base/socket.h"

#include "walagent/base/bytes.h"
#include "walagent/base/file.h"
#include "walagent/base/time.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#define SEND_TIMEOUT_MS 5000
#define LISTEN_BACKLOG 64
#define PROBE_TIMEOUT_MS 1000

/* dir_fd must stay open while the address is used. */
static wa_status
make_address(const char *path, struct sockaddr_un *ret, int *ret_dir_fd, wa_error *err)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    if (strlen(path) < sizeof address.sun_path) {
        memcpy(address.sun_path, path, strlen(path) + 1);
        *ret = address;
        return WA_OK;
    }
    WA_CLEANUP(wa_freep) char *dir = wa_path_dir(path);
    WA_CLEANUP(wa_closep) int fd = open(dir, O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return wa_error_errno(err, errno, "could not open directory \"%s\": %m", dir);
    int len = snprintf(address.sun_path, sizeof address.sun_path, "/proc/self/fd/%d/%s", fd,
                       wa_path_base(path));
    if (len < 0 || (size_t)len >= sizeof address.sun_path)
        return wa_error_set(err, WA_INVALID, "the socket's name \"%s\" is too long", path);
    *ret = address;
    *ret_dir_fd = fd;
    fd = -1;
    return WA_OK;
}

static wa_status
connect_failed(int errnum, const char *path, wa_error *err)
{
    wa_status status = wa_error_errno(err, errnum, "could not connect to socket \"%s\": %m", path);
    if (status == WA_NOT_FOUND || errnum == ECONNREFUSED || errnum == EAGAIN || errnum == ENOTSOCK)
        err->status = WA_UNAVAILABLE; /* nobody listens there */
    return err->status;
}

wa_status
wa_socket_connect(const char *path, int timeout_ms, int *ret_fd, wa_error *err)
{
    struct sockaddr_un address;
    WA_CLEANUP(wa_closep) int dir_fd = -1;
    wa_status made = make_address(path, &address, &dir_fd, err);
    if (made == WA_NOT_FOUND)
        err->status = WA_UNAVAILABLE;
    if (made != WA_OK)
        return err->status;
    WA_CLEANUP(wa_closep) int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return wa_error_errno(err, errno, "could not create a socket: %m");
    wa_mono deadline = wa_mono_now() + (uint64_t)(timeout_ms > 0 ? timeout_ms : 0);
    /* EAGAIN: the listener's backlog is full; there is nothing to poll for. */
    while (connect(fd, (struct sockaddr *)&address, sizeof address) != 0) {
        if (errno == EINTR)
            continue;
        if (errno != EAGAIN || wa_mono_left(deadline) == 0)
            return connect_failed(errno, path, err);
        (void)poll(NULL, 0, 10);
    }
    *ret_fd = fd;
    fd = -1;
    return WA_OK;
}

/* CONFLICT when somebody answers; else a stale socket is removed. Anything but a socket stays. */
static wa_status
clear_the_way(const char *path, wa_error *err)
{
    struct stat st;
    if (lstat(path, &st) != 0) {
        if (errno == ENOENT)
            return WA_OK;
        return wa_error_errno(err, errno, "could not look at \"%s\": %m", path);
    }
    if (!S_ISSOCK(st.st_mode))
        return wa_error_set(err, WA_INVALID, "\"%s\" exists and is no socket", path);
    WA_CLEANUP(wa_closep) int fd = -1;
    wa_status status = wa_socket_connect(path, PROBE_TIMEOUT_MS, &fd, err);
    if (status == WA_OK) {
        wa_error_set(err, WA_CONFLICT, "another process listens on socket \"%s\"", path);
        return wa_error_hint(err, "Is an agent of this cluster running already?");
    }
    if (status != WA_UNAVAILABLE)
        return status;
    wa_error_clear(err);
    if (unlink(path) != 0 && errno != ENOENT)
        return wa_error_errno(err, errno, "could not remove socket \"%s\": %m", path);
    return WA_OK;
}

wa_status
wa_socket_listen(const char *path, int *ret_fd, wa_error *err)
{
    struct sockaddr_un address;
    WA_CLEANUP(wa_closep) int dir_fd = -1;
    WA_TRY(make_address(path, &address, &dir_fd, err));
    /* Two that start at once: one of them would remove the other's fresh socket. */
    WA_CLEANUP(wa_freep) char *lock_path = wa_format("%s.lock", path);
    WA_CLEANUP(wa_closep) int lock = -1;
    WA_TRY(wa_lock_file(lock_path, &lock, err));
    WA_TRY(clear_the_way(path, err));
    WA_CLEANUP(wa_closep) int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return wa_error_errno(err, errno, "could not create a socket: %m");
    /* Nobody can connect before listen(), so the mode is right before it matters. */
    if (bind(fd, (struct sockaddr *)&address, sizeof address) != 0)
        return wa_error_errno(err, errno, "could not bind socket \"%s\": %m", path);
    if (chmod(path, 0770) != 0 || listen(fd, LISTEN_BACKLOG) != 0) {
        int errnum = errno;
        (void)unlink(path);
        return wa_error_errno(err, errnum, "could not listen on socket \"%s\": %m", path);
    }
    *ret_fd = fd;
    fd = -1;
    return WA_OK;
}

static wa_status
send_all(int fd, const char *data, size_t len, wa_error *err)
{
    wa_mono deadline = wa_mono_now() + SEND_TIMEOUT_MS;
    while (len > 0) {
        ssize_t put = send(fd, data, len, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (put > 0) {
            data += put;
            len -= (size_t)put;
            continue;
        }
        if (put < 0 && errno == EINTR)
            continue;
        if (put < 0 && errno != EAGAIN)
            return wa_error_set(err, WA_UNAVAILABLE, "the peer of the local socket went away");
        int left = wa_mono_left(deadline);
        struct pollfd poll_fd = {.fd = fd, .events = POLLOUT};
        if (left == 0 || (poll(&poll_fd, 1, left) < 0 && errno != EINTR))
            return wa_error_set(err, WA_UNAVAILABLE, "the peer of the local socket reads nothing");
    }
    return WA_OK;
}

wa_status
wa_socket_send(int fd, const wa_strv *fields, wa_error *err)
{
    WA_CLEANUP(wa_buf_done) wa_buf frame = WA_BUF_INIT(WA_SOCKET_FRAME_MAX + 4);
    uint8_t length[4] = {0};
    WA_TRY(wa_buf_append(&frame, length, sizeof length, err));
    for (size_t i = 0; i < fields->count; i++) {
        size_t len = strlen(fields->items[i]) + 1;
        if (wa_buf_append(&frame, fields->items[i], len, err) != WA_OK)
            return wa_error_set(err, WA_INVALID, "a message is too long for the local socket");
    }
    wa_put_u32be(frame.data, (uint32_t)(frame.len - 4));
    return send_all(fd, frame.data, frame.len, err);
}

static wa_status
receive_all(int fd, wa_cancel *cancel, wa_mono deadline, char *data, size_t len, wa_error *err)
{
    while (len > 0) {
        ssize_t got = recv(fd, data, len, MSG_DONTWAIT);
        if (got > 0) {
            data += got;
            len -= (size_t)got;
            continue;
        }
        if (got < 0 && errno == EINTR)
            continue;
        if (got == 0 || errno != EAGAIN)
            return wa_error_set(err, WA_UNAVAILABLE, "the peer of the local socket went away");
        if (wa_cancel_poll(cancel, fd, POLLIN, wa_mono_left(deadline), err) != WA_OK)
            return wa_error_wrap(err, "waiting for the local socket");
    }
    return WA_OK;
}

wa_status
wa_socket_receive(int fd, wa_cancel *cancel, int timeout_ms, wa_strv *ret_fields, wa_error *err)
{
    char length[4];
    wa_mono deadline = wa_mono_now() + (uint64_t)(timeout_ms > 0 ? timeout_ms : 0);
    WA_TRY(receive_all(fd, cancel, deadline, length, sizeof length, err));
    size_t len = wa_get_u32be(length);
    if (len == 0 || len > WA_SOCKET_FRAME_MAX)
        return wa_error_set(err, WA_CORRUPT, "a message of %zu bytes on the local socket", len);
    WA_CLEANUP(wa_freep) char *frame = wa_malloc(len);
    WA_TRY(receive_all(fd, cancel, deadline, frame, len, err));
    if (frame[len - 1] != '\0')
        return wa_error_set(err, WA_CORRUPT, "a message on the local socket has no end");
    wa_strv_done(ret_fields);
    for (size_t at = 0; at < len; at += strlen(frame + at) + 1)
        wa_strv_add(ret_fields, frame + at);
    return WA_OK;
}

wa_status
wa_socket_peer_uid(int fd, unsigned *ret_uid, wa_error *err)
{
    struct ucred peer = {0};
    socklen_t len = sizeof peer;
    if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &len) != 0)
        return wa_error_errno(err, errno, "could not tell who is at the local socket: %m");
    *ret_uid = peer.uid;
    return WA_OK;
}
