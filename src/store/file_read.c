/*
 * src/store/file_read.c - the file:// driver: get, head, delete.
 */
#include "file_internal.h"

#include "walagent/base/file.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#define READ_SIZE (256u * 1024)
#define META_FILE_MAX 4096

/* NOT_FOUND only when the root directory is there and the name is not, or is a directory. */
static wa_status
open_object(const wa_fs *fs, const char *key, const char *path, int *ret_fd, struct stat *ret_st,
            wa_error *err)
{
    WA_TRY(wa_cancel_check(fs->cancel, err));
    WA_CLEANUP(wa_closep) int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0 && (errno == ENOENT || errno == ENOTDIR))
        return wa_fs_not_found(fs, key, err);
    if (fd < 0)
        return wa_fs_fail(fs, errno, "open file", path, err);
    if (fstat(fd, ret_st) != 0)
        return wa_fs_fail(fs, errno, "access file", path, err);
    if (!S_ISREG(ret_st->st_mode))
        return wa_fs_not_found(fs, key, err);
    wa_fs_saw(fs, path, fd, true);
    *ret_fd = WA_TAKE_FD(fd);
    return WA_OK;
}

static wa_status
read_meta(const wa_fs *fs, const char *path, char **ret, wa_error *err)
{
    WA_CLEANUP(wa_freep) char *meta_path = wa_format("%s" WA_FS_META_SUFFIX, path);
    WA_CLEANUP(wa_closep) int fd = open(meta_path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0 && errno == ENOENT) {
        *ret = wa_strdup("");
        return WA_OK;
    }
    if (fd < 0)
        return wa_fs_fail(fs, errno, "open file", meta_path, err);
    char text[META_FILE_MAX];
    ssize_t n = read(fd, text, sizeof text);
    if (n < 0)
        return wa_fs_fail(fs, errno, "read file", meta_path, err);
    if (n == 0 || (size_t)n == sizeof text || memchr(text, '\0', (size_t)n) != NULL)
        return wa_error_set(err, WA_CORRUPT, "file \"%s\" does not hold public facts", meta_path);
    *ret = wa_strndup(text, (size_t)n);
    return WA_OK;
}

static wa_status
send_range(const wa_fs *fs, int fd, uint64_t offset, uint64_t len, const char *path, wa_sink *to,
           wa_error *err)
{
    size_t size = len < READ_SIZE ? (size_t)len : READ_SIZE;
    WA_CLEANUP(wa_freep) char *buffer = wa_malloc(size + 1);
    if (len > READ_SIZE)
        (void)posix_fadvise(fd, (off_t)offset, (off_t)len, POSIX_FADV_SEQUENTIAL);
    while (len > 0) {
        WA_TRY(wa_cancel_check(fs->cancel, err));
        ssize_t n = pread(fd, buffer, len < size ? (size_t)len : size, (off_t)offset);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return wa_fs_fail(fs, errno, "read file", path, err);
        if (n == 0)
            return wa_error_set(err, WA_CORRUPT, "file \"%s\" became shorter while it was read",
                                path);
        WA_TRY(wa_sink_write(to, buffer, (size_t)n, err));
        offset += (uint64_t)n;
        len -= (uint64_t)n;
    }
    return WA_OK;
}

wa_status
wa_fs_get(wa_store *store, const char *key, bool tail, uint64_t offset, uint64_t len, wa_sink *to,
          uint64_t *ret_size, char **ret_meta, wa_error *err)
{
    const wa_fs *fs = (const wa_fs *)store;
    WA_CLEANUP(wa_freep) char *path = wa_fs_path(fs, key);
    WA_CLEANUP(wa_closep) int fd = -1;
    WA_CLEANUP(wa_freep) char *meta = NULL;
    struct stat st;
    WA_TRY(open_object(fs, key, path, &fd, &st, err));
    uint64_t size = (uint64_t)st.st_size;
    if (tail)
        offset = size - (len < size ? len : size);
    else if (offset > 0 && offset >= size)
        return wa_error_set(err, WA_INVALID, "range of file \"%s\" begins behind its end", path);
    if (len > size - offset)
        len = size - offset;
    if (ret_meta != NULL)
        WA_TRY(read_meta(fs, path, &meta, err));
    WA_TRY(send_range(fs, fd, offset, len, path, to, err));
    *ret_size = size;
    if (ret_meta != NULL)
        *ret_meta = WA_TAKE(meta);
    return WA_OK;
}

wa_status
wa_fs_head(wa_store *store, const char *key, uint64_t *ret_size, wa_time *ret_modified,
           char **ret_meta, wa_error *err)
{
    const wa_fs *fs = (const wa_fs *)store;
    WA_CLEANUP(wa_freep) char *path = wa_fs_path(fs, key);
    WA_CLEANUP(wa_closep) int fd = -1;
    struct stat st;
    WA_TRY(open_object(fs, key, path, &fd, &st, err));
    if (ret_meta != NULL)
        WA_TRY(read_meta(fs, path, ret_meta, err));
    *ret_size = (uint64_t)st.st_size;
    *ret_modified =
        wa_time_from_unix_us((int64_t)st.st_mtim.tv_sec * 1000000 + st.st_mtim.tv_nsec / 1000);
    return WA_OK;
}

static wa_status
sync_names(const wa_fs *fs, const char *dir, wa_error *err)
{
    wa_status status = wa_fsync_dir(dir, err);
    if (status == WA_NOT_FOUND) /* gone with what was in it, unless it is the root that is away */
        WA_TRY(wa_fs_check_root(fs, err));
    return status;
}

/* Bytes and facts were synced before they had their names. A directory is synced when all that is
 * asked for was seen in it. */
wa_status
wa_fs_settle(wa_store *store, const wa_strv *keys, wa_error *err)
{
    const wa_fs *fs = (const wa_fs *)store;
    WA_CLEANUP(wa_freep) char *dir = NULL;
    for (size_t i = 0; i < keys->count; i++) {
        WA_CLEANUP(wa_freep) char *path = wa_fs_path(fs, keys->items[i]);
        WA_CLEANUP(wa_freep) char *next = wa_path_dir(path);
        WA_CLEANUP(wa_closep) int fd = -1;
        struct stat st;
        if (dir != NULL && !wa_str_eq(dir, next))
            WA_TRY(sync_names(fs, dir, err));
        WA_TRY(open_object(fs, keys->items[i], path, &fd, &st, err));
        wa_freep(&dir);
        dir = WA_TAKE(next);
    }
    return sync_names(fs, dir, err);
}

/* ---- delete ---- */

/* The object first: facts without an object are nothing, an object without its facts is wrong. */
static wa_status
remove_object(const wa_fs *fs, const char *key, wa_error *err)
{
    WA_CLEANUP(wa_freep) char *path = wa_fs_path(fs, key);
    WA_CLEANUP(wa_freep) char *meta_path = wa_format("%s" WA_FS_META_SUFFIX, path);
    WA_CLEANUP(wa_closep) int lock = -1;
    WA_TRY(wa_cancel_check(fs->cancel, err));
    WA_TRY(wa_fs_lock_facts(fs, key, &lock, err));
    if (unlink(path) != 0) {
        if (errno == EISDIR)
            return WA_OK; /* no object of this name */
        if (errno != ENOENT && errno != ENOTDIR)
            return wa_fs_fail(fs, errno, "remove file", path, err);
        WA_TRY(wa_fs_check_root(fs, err));
    }
    if (lock >= 0 && unlink(meta_path) != 0 && errno != ENOENT)
        return wa_fs_fail(fs, errno, "remove file", meta_path, err);
    return WA_OK;
}

/* Make removals in `dir` durable, after taking away what became empty up to the root. */
static wa_status
settle_directory(const wa_fs *fs, const char *first, wa_error *err)
{
    WA_CLEANUP(wa_freep) char *dir = wa_strdup(first);
    size_t root_len = strlen(fs->root);
    while (strlen(dir) > root_len && (rmdir(dir) == 0 || errno == ENOENT))
        *strrchr(dir, '/') = '\0';
    /* A directory that another deleter took away meanwhile: its removal is in the one above. */
    for (;;) {
        wa_status status = wa_fsync_dir(dir, err);
        if (status != WA_NOT_FOUND)
            return status;
        wa_error_clear(err);
        if (strlen(dir) <= root_len)
            return wa_fs_check_root(fs, err);
        *strrchr(dir, '/') = '\0';
    }
}

wa_status
wa_fs_remove(wa_store *store, const wa_strv *keys, wa_error *err)
{
    const wa_fs *fs = (const wa_fs *)store;
    WA_CLEANUP(wa_freep) char *dir = NULL;
    wa_error first = WA_ERROR_INIT, other = WA_ERROR_INIT;
    WA_TRY(wa_fs_check_root(fs, err));
    for (size_t i = 0; i < keys->count; i++) {
        wa_error *to = first.status == WA_OK ? &first : &other;
        WA_CLEANUP(wa_freep) char *path = wa_fs_path(fs, keys->items[i]);
        WA_CLEANUP(wa_freep) char *next = wa_path_dir(path);
        if (dir != NULL && !wa_str_eq(dir, next))
            (void)settle_directory(fs, dir, to);
        to = first.status == WA_OK ? &first : &other;
        (void)remove_object(fs, keys->items[i], to);
        wa_freep(&dir);
        dir = WA_TAKE(next);
    }
    if (dir != NULL)
        (void)settle_directory(fs, dir, first.status == WA_OK ? &first : &other);
    if (first.status != WA_OK)
        *err = first;
    return first.status;
}
