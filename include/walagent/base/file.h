/*
 * walagent/base/file.h - files that are there after a crash, or not at all.
 *
 * A durable write goes to a temporary file in the same directory, is fsynced, renamed (or linked,
 * when nothing may be overwritten), and the directory is fsynced. A failed fsync is never retried:
 * the temporary file is removed and the error returned. Errors: NOT_FOUND, EXISTS, DENIED,
 * NO_SPACE, IO, each with the path in the message.
 */
#ifndef WALAGENT_BASE_FILE_H
#define WALAGENT_BASE_FILE_H

#include "walagent/base/buf.h"
#include "walagent/base/error.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/stat.h>
#include <sys/types.h>

typedef enum wa_write_mode {
    WA_WRITE_REPLACE = 0, /* rename over what is there */
    WA_WRITE_CREATE = 1   /* EXISTS when the name is taken (durably: it survives a crash); atomic
                           * against other writers */
} wa_write_mode;

/* The temporary files of durable writes begin with this; a listing should pass them over. */
#define WA_FILE_TMP_PREFIX ".walagent-tmp-"

/* `ret` is an initialised buffer; its content is replaced. NO_SPACE when the file is larger than
 * max. */
wa_status wa_file_read(const char *path, size_t max, wa_buf *ret, wa_error *err) WA_MUST_CHECK;
wa_status wa_file_write(const char *path, const void *data, size_t len, mode_t mode,
                        wa_write_mode how, wa_error *err) WA_MUST_CHECK;
/* All of len at offset, retried over short counts and EINTR. `path` is for the message. */
wa_status wa_pwrite_all(int fd, const void *data, size_t len, off_t offset, const char *path,
                        wa_error *err) WA_MUST_CHECK;
wa_status wa_write_all(int fd, const void *data, size_t len, const char *path,
                       wa_error *err) WA_MUST_CHECK;
/* Exactly len bytes; CORRUPT when the file ends before. */
wa_status wa_pread_all(int fd, void *data, size_t len, off_t offset, const char *path,
                       wa_error *err) WA_MUST_CHECK;
wa_status wa_fsync(int fd, const char *path, wa_error *err) WA_MUST_CHECK;
/* Begins to write these bytes to the disk and doesn't wait: whoever fsyncs later finds less to do,
 * and hears of what failed. */
void wa_file_begin_writeback(int fd, uint64_t offset, uint64_t len);
/* The pages of the file leave the page cache, but for those of its last `kept` bytes and what the
 * kernel keeps together with them. They are on the disk already; what is not stays. */
void wa_file_let_go(int fd, uint64_t kept);
wa_status wa_fsync_dir(const char *path, wa_error *err) WA_MUST_CHECK;
/* The directory that holds `path`. */
wa_status wa_fsync_parent(const char *path, wa_error *err) WA_MUST_CHECK;
wa_status wa_rename_durable(const char *from, const char *to, wa_error *err) WA_MUST_CHECK;
/* Makes missing parents too; existing directories are fine. New directories are fsynced into their
 * parent. */
wa_status wa_mkdir_p(const char *path, mode_t mode, wa_error *err) WA_MUST_CHECK;
/* Removes the tree below and the directory itself; missing is fine. Symbolic links are not
 * followed. */
wa_status wa_remove_tree(const char *path, wa_error *err) WA_MUST_CHECK;
/* The name is there, a dangling link included. True also when it could not be looked up: only a
 * positive absence is false. */
bool wa_path_exists(const char *path);
bool wa_dir_is_empty(const char *path); /* missing counts as empty; unreadable does not */
/* dir + "/" + name, owned by the caller. */
char *wa_path_join(const char *dir, const char *name);
const char *wa_path_base(const char *path); /* borrowed tail of path */
char *wa_path_dir(const char *path);        /* owned; "." when there is none */
uint64_t wa_disk_free(const char *path);    /* bytes; UINT64_MAX when unknown */

/* An advisory lock (flock) held while the descriptor is open. CONFLICT when another process has it.
 */
wa_status wa_lock_file(const char *path, int *ret_fd, wa_error *err) WA_MUST_CHECK;

#endif
