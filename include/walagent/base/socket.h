/*
 * walagent/base/socket.h - the agent's local socket: small framed messages between hooks and agent.
 *
 * Frame: u32 length (big-endian, of what follows, at most 64 KiB), then NUL-terminated UTF-8
 * fields: the verb or status first ("archive-get", "ok", "error"), then arguments. libc only (the
 * hooks' front links nothing else). Peers are checked by SO_PEERCRED: same user, or root.
 */
#ifndef WALAGENT_BASE_SOCKET_H
#define WALAGENT_BASE_SOCKET_H

#include "walagent/base/cancel.h"
#include "walagent/base/error.h"
#include "walagent/base/str.h"

#define WA_SOCKET_FRAME_MAX 65536

/* UNAVAILABLE when nobody listens there (missing socket, refused). */
wa_status wa_socket_connect(const char *path, int timeout_ms, int *ret_fd,
                            wa_error *err) WA_MUST_CHECK;
/* Replaces a stale socket file; CONFLICT when a live agent answers on it. Mode 0770. */
wa_status wa_socket_listen(const char *path, int *ret_fd, wa_error *err) WA_MUST_CHECK;
wa_status wa_socket_send(int fd, const wa_strv *fields, wa_error *err) WA_MUST_CHECK;
/* One frame. UNAVAILABLE on time-out or a peer that went away, CORRUPT on a malformed frame. */
wa_status wa_socket_receive(int fd, wa_cancel *cancel, int timeout_ms, wa_strv *ret_fields,
                            wa_error *err) WA_MUST_CHECK;
/* The peer's user id. */
wa_status wa_socket_peer_uid(int fd, unsigned *ret_uid, wa_error *err) WA_MUST_CHECK;

#endif
