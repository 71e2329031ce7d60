/*
 * file.c - reading and writing whole files and ranges, fsync, durable creation and renaming.
 */
#include "walagent/base/file.h"

#include "walagent/base/crash.h"
#include "walagent/base/mem.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/random.h>
#include <unistd.h>

#define READ_STEP 65536

/* Reads up to len bytes, retried over EINTR. */
static ssize_t
read_some(int fd, void *data, size_t len)
{
    ssize_t got;
    do
        got = read(fd, data, len);
    while (got < 0 && errno == EINTR);
    return got;
}

static wa_status
read_to_end(int fd, const char *path, size_t max, wa_buf *content, wa_error *err)
{
    char step[READ_STEP];
    for (;;) {
        ssize_t got = read_some(fd, step, sizeof step);
        if (got < 0)
            return wa_error_errno(err, errno, "could not read file \"%s\": %m", path);
        if (got == 0)
            return WA_OK;
        if ((size_t)got > max - content->len)
            return wa_error_set(err, WA_NO_SPACE, "file \"%s\" is larger than %zu bytes", path,
                                max);
        if (wa_buf_append(content, step, (size_t)got, err) != WA_OK)
            return wa_error_wrap(err, "could not read file \"%s\"", path);
    }
}

wa_status
wa_file_read(const char *path, size_t max, wa_buf *ret, wa_error *err)
{
    WA_CLEANUP(wa_closep) int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return wa_error_errno(err, errno, "could not open file \"%s\": %m", path);
    WA_CLEANUP(wa_buf_done) wa_buf content = WA_BUF_INIT(max);
    WA_TRY(read_to_end(fd, path, max, &content, err));
    wa_buf_done(ret);
    *ret = content;
    content = (wa_buf)WA_BUF_INIT(max);
    return WA_OK;
}

wa_status
wa_pwrite_all(int fd, const void *data, size_t len, off_t offset, const char *path, wa_error *err)
{
    const char *p = data;
    while (len > 0) {
        ssize_t put = pwrite(fd, p, len, offset);
        if (put < 0 && errno == EINTR)
            continue;
        if (put <= 0)
            return wa_error_errno(err, put < 0 ? errno : ENOSPC,
                                  "could not write to file \"%s\": %m", path);
        p += put;
        len -= (size_t)put;
        offset += put;
    }
    return WA_OK;
}

wa_status
wa_write_all(int fd, const void *data, size_t len, const char *path, wa_error *err)
{
    const char *p = data;
    while (len > 0) {
        ssize_t put = write(fd, p, len);
        if (put < 0 && errno == EINTR)
            continue;
        if (put <= 0)
            return wa_error_errno(err, put < 0 ? errno : ENOSPC,
                                  "could not write to file \"%s\": %m", path);
        p += put;
        len -= (size_t)put;
    }
    return WA_OK;
}

wa_status
wa_pread_all(int fd, void *data, size_t len, off_t offset, const char *path, wa_error *err)
{
    char *p = data;
    while (len > 0) {
        ssize_t got = pread(fd, p, len, offset);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return wa_error_errno(err, errno, "could not read file \"%s\": %m", path);
        if (got == 0)
            return wa_error_set(err, WA_CORRUPT,
                                "file \"%s\" ends at byte %" PRId64 ", %zu more were expected",
                                path, (int64_t)offset, len);
        p += got;
        len -= (size_t)got;
        offset += got;
    }
    return WA_OK;
}

wa_status
wa_fsync(int fd, const char *path, wa_error *err)
{
    /* Once: after a failure the kernel may report success for pages that it dropped. */
    if (fsync(fd) != 0)
        return wa_error_errno(err, errno, "could not fsync file \"%s\": %m", path);
    return WA_OK;
}

void
wa_file_begin_writeback(int fd, uint64_t offset, uint64_t len)
{
    (void)sync_file_range(fd, (off_t)offset, (off_t)len, SYNC_FILE_RANGE_WRITE);
}

void
wa_file_let_go(int fd, uint64_t kept)
{
    struct stat st;
    if (fstat(fd, &st) == 0 && (uint64_t)st.st_size > kept)
        (void)posix_fadvise(fd, 0, st.st_size - (off_t)kept, POSIX_FADV_DONTNEED);
}

wa_status
wa_fsync_dir(const char *path, wa_error *err)
{
    WA_CLEANUP(wa_closep) int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return wa_error_errno(err, errno, "could not open directory \"%s\": %m", path);
    /* EINVAL, EBADF: a file system that doesn't know fsync of directories, as PostgreSQL sees it */
    if (fsync(fd) != 0 && errno != EINVAL && errno != EBADF)
        return wa_error_errno(err, errno, "could not fsync directory \"%s\": %m", path);
    return WA_OK;
}

wa_status
wa_fsync_parent(const char *path, wa_error *err)
{
    WA_CLEANUP(wa_freep) char *dir = wa_path_dir(path);
    return wa_fsync_dir(dir, err);
}

wa_status
wa_rename_durable(const char *from, const char *to, wa_error *err)
{
    WA_CLEANUP(wa_closep) int fd = open(from, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return wa_error_errno(err, errno, "could not open file \"%s\": %m", from);
    WA_TRY(wa_fsync(fd, from, err));
    if (rename(from, to) != 0)
        return wa_error_errno(err, errno, "could not rename file \"%s\" to \"%s\": %m", from, to);
    WA_CRASH_POINT("file-renamed");
    WA_TRY(wa_fsync_parent(to, err));
    WA_CLEANUP(wa_freep) char *from_dir = wa_path_dir(from);
    WA_CLEANUP(wa_freep) char *to_dir = wa_path_dir(to);
    if (strcmp(from_dir, to_dir) != 0)
        WA_TRY(wa_fsync_dir(from_dir, err));
    return WA_OK;
}

/* A name that nobody else has, in the directory of `path`. */
static char *
temporary_name(const char *path)
{
    uint64_t number = 0;
    WA_ASSERT(getrandom(&number, sizeof number, 0) == (ssize_t)sizeof number);
    WA_CLEANUP(wa_freep) char *dir = wa_path_dir(path);
    return wa_format("%s/" WA_FILE_TMP_PREFIX "%016" PRIx64, dir, number);
}

static wa_status
write_temporary(const char *tmp, const void *data, size_t len, mode_t mode, wa_error *err)
{
    WA_CLEANUP(wa_closep) int fd = open(tmp, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, mode);
    if (fd < 0)
        return wa_error_errno(err, errno, "could not create file \"%s\": %m", tmp);
    WA_TRY(wa_write_all(fd, data, len, tmp, err));
    WA_CRASH_POINT("file-written");
    WA_TRY(wa_fsync(fd, tmp, err));
    int closing = fd;
    fd = -1;
    if (close(closing) != 0) /* NFS tells here that the quota is full */
        return wa_error_errno(err, errno, "could not close file \"%s\": %m", tmp);
    return WA_OK;
}

/* Gives tmp the name `path` unless that is taken; afterwards tmp may be left. 0 or an errno. */
static int
link_exclusively(const char *tmp, const char *path)
{
    if (link(tmp, path) == 0)
        return 0;
    /* file systems without hard links */
    if (errno != EPERM && errno != EOPNOTSUPP && errno != ENOSYS)
        return errno;
    return renameat2(AT_FDCWD, tmp, AT_FDCWD, path, RENAME_NOREPLACE) == 0 ? 0 : errno;
}

static wa_status
publish(const char *tmp, const char *path, wa_write_mode how, wa_error *err)
{
    int errnum = 0;
    WA_CRASH_POINT("file-synced");
    if (how == WA_WRITE_CREATE)
        errnum = link_exclusively(tmp, path);
    else if (rename(tmp, path) != 0)
        errnum = errno;
    if (errnum == EEXIST) {
        /* "It exists" must not be taken back by a crash: the other writer may not be this far. */
        WA_TRY(wa_fsync_parent(path, err));
    }
    if (errnum != 0)
        return wa_error_errno(err, errnum, "could not create file \"%s\": %m", path);
    WA_CRASH_POINT("file-renamed");
    return WA_OK;
}

wa_status
wa_file_write(const char *path, const void *data, size_t len, mode_t mode, wa_write_mode how,
              wa_error *err)
{
    WA_CLEANUP(wa_freep) char *tmp = temporary_name(path);
    wa_status status = write_temporary(tmp, data, len, mode, err);
    if (status == WA_OK)
        status = publish(tmp, path, how, err);
    if (status != WA_OK || how == WA_WRITE_CREATE)
        unlink(tmp); /* its name, or the second of two names */
    WA_TRY(status);
    return wa_fsync_parent(path, err);
}

wa_status
wa_lock_file(const char *path, int *ret_fd, wa_error *err)
{
    WA_CLEANUP(wa_closep) int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (fd < 0)
        return wa_error_errno(err, errno, "could not open lock file \"%s\": %m", path);
    int result;
    do
        result = flock(fd, LOCK_EX | LOCK_NB);
    while (result != 0 && errno == EINTR);
    if (result != 0 && errno == EWOULDBLOCK)
        return wa_error_set(err, WA_CONFLICT, "file \"%s\" is locked by another process", path);
    if (result != 0)
        return wa_error_errno(err, errno, "could not lock file \"%s\": %m", path);
    *ret_fd = fd;
    fd = -1;
    return WA_OK;
}
