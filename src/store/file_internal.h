/*
 * src/store/file_internal.h - what the parts of the file:// driver share.
 */
#ifndef WALAGENT_STORE_FILE_INTERNAL_H
#define WALAGENT_STORE_FILE_INTERNAL_H

#include "driver_internal.h"

#include <sys/stat.h>

#define WA_FS_TMP_PREFIX ".tmp-"
#define WA_FS_TMP_RANDOM 16 /* hex digits between the prefix and "-<last component of the key>" */
#define WA_FS_META_SUFFIX ".meta"
#define WA_FS_FILE_MODE 0640

/* WA_TAKE for descriptors. */
#define WA_TAKE_FD(fd)                                                                             \
    ({                                                                                             \
        int wa_take_fd_ = (fd);                                                                    \
        (fd) = -1;                                                                                 \
        wa_take_fd_;                                                                               \
    })

typedef struct wa_fs_seen wa_fs_seen;

typedef struct wa_fs {
    wa_store base;
    char *root; /* absolute, without trailing slash */
    char *url;
    wa_fs_seen *seen; /* the directory that root named when an object was found in it */
    uint64_t budget_ms;
    wa_cancel *cancel;
} wa_fs;

char *wa_fs_path(const wa_fs *fs, const char *key);
/* An errno value as an error: "could not DOING "PATH": %m", with a hint where a person can help. */
wa_status wa_fs_fail(const wa_fs *fs, int errnum, const char *doing, const char *path,
                     wa_error *err);

/* All of it, at this offset; errors: wa_fs_fail. */
wa_status wa_fs_write(const wa_fs *fs, int fd, const void *data, size_t len, uint64_t offset,
                      const char *doing, const char *path, wa_error *err) WA_MUST_CHECK;
/* A hint for the kernel, so that the sync at the end finds little left to do. */
void wa_fs_start_write_back(int fd, uint64_t offset, uint64_t len);

/* file_direct.c. A second descriptor of a file that is being written, past the page cache; -1 where
 * there is no such thing. */
int wa_fs_open_direct(const char *path);
/* wa_fs_write by `direct` (or -1) as far as that goes, else by fd; its write-back is begun. */
wa_status wa_fs_write_part(const wa_fs *fs, int direct, int fd, const void *data, size_t len,
                           uint64_t offset, const char *path, wa_error *err) WA_MUST_CHECK;

/* file_draft.c */
int wa_fs_draft(wa_store *store);
wa_status wa_fs_draft_write(wa_store *store, int draft, uint64_t offset, const void *data,
                            size_t len, wa_error *err);
/* Gives the draft that is the whole of the body this name in dir: a descriptor of it. Negative, an
 * errno value: it has none. ENOENT may mean that there is no dir; else the bytes must be copied. */
int wa_fs_name_draft(const wa_body *body, const char *dir, const char *name);

/* file_root.c. After ENOENT, and around a listing or a write: OK when the root directory is there
 * and the one seen before, else UNAVAILABLE. */
wa_status wa_fs_check_root(const wa_fs *fs, wa_error *err) WA_MUST_CHECK;
/* The same before a write: OK also when no root was seen yet and there is none (it is made). */
wa_status wa_fs_check_writable(const wa_fs *fs, wa_error *err) WA_MUST_CHECK;
/* An object was read or written: where it lies is the repository from now on. */
void wa_fs_saw(const wa_fs *fs, const char *path, int fd, bool read);
wa_fs_seen *wa_fs_seen_new(void);
void wa_fs_seen_free(wa_fs_seen *seen);

wa_status wa_fs_not_found(const wa_fs *fs, const char *key, wa_error *err);
/* Take the lock of the facts of `key` (see file.c) and leave it in *ret_fd; -1 when there are no
 * facts. */
wa_status wa_fs_lock_facts(const wa_fs *fs, const char *key, int *ret_fd,
                           wa_error *err) WA_MUST_CHECK;

wa_status wa_fs_get(wa_store *store, const char *key, bool tail, uint64_t offset, uint64_t len,
                    wa_sink *to, uint64_t *ret_size, char **ret_meta, wa_error *err);
wa_status wa_fs_settle(wa_store *store, const wa_strv *keys, wa_error *err) WA_MUST_CHECK;
wa_status wa_fs_head(wa_store *store, const char *key, uint64_t *ret_size, wa_time *ret_modified,
                     char **ret_meta, wa_error *err);
wa_status wa_fs_remove(wa_store *store, const wa_strv *keys, wa_error *err);
wa_status wa_fs_list(wa_store *store, const wa_list_options *options, wa_list_fn fn, void *arg,
                     wa_error *err);
wa_status wa_fs_abort_uploads(wa_store *store, const char *prefix, wa_time before,
                              size_t *ret_count, wa_error *err);

#endif
