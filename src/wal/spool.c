/*
 * spool.c - segment files in the spool directory: append, sync, read, remove.
 */
#include "spool_internal.h"

#include "walagent/base/crash.h"
#include "walagent/base/file.h"
#include "walagent/base/thread.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

struct wa_spool {
    char *dir;
    uint64_t segment_size;
    int lock_fd;
    atomic_uint_fast64_t bytes;

    /* What is appended to; only the receiver touches it. */
    int fd; /* -1: nothing */
    wa_branch branch;
    wa_segno segno;
    uint64_t size, synced;
    bool name_synced;
};

static char *
file_path(const wa_spool *spool, const wa_branch *branch, wa_segno segno)
{
    char name[WA_SEGMENT_NAME];
    wa_segment_name(branch->tli, segno, spool->segment_size, name);
    return wa_format("%s/%s%s%s", spool->dir, name, branch->id[0] != '\0' ? "-" : "", branch->id);
}

static bool
parse_name(const wa_spool *spool, const char *name, wa_spool_file *ret)
{
    wa_spool_file file = {0};
    char segment[WA_SEGMENT_NAME];
    size_t len = strlen(name);
    if (len < WA_SEGMENT_NAME - 1)
        return false;
    memcpy(segment, name, WA_SEGMENT_NAME - 1);
    segment[WA_SEGMENT_NAME - 1] = '\0';
    if (!wa_segment_parse(segment, spool->segment_size, &file.branch.tli, &file.segno))
        return false;
    const char *rest = name + WA_SEGMENT_NAME - 1;
    if (rest[0] != '\0' &&
        (rest[0] != '-' || rest[1] == '\0' || strlen(rest + 1) >= sizeof file.branch.id))
        return false;
    if (rest[0] == '-')
        memcpy(file.branch.id, rest + 1, strlen(rest + 1) + 1);
    *ret = file;
    return true;
}

static int
compare_files(const void *a, const void *b)
{
    const wa_spool_file *x = a, *y = b;
    if (x->branch.tli != y->branch.tli)
        return x->branch.tli < y->branch.tli ? -1 : 1;
    if (x->segno != y->segno)
        return x->segno < y->segno ? -1 : 1;
    return strcmp(x->branch.id, y->branch.id);
}

static void
close_dirp(DIR **dir)
{
    if (*dir != NULL)
        closedir(*dir);
}

wa_status
wa_spool_list(wa_spool *spool, wa_spool_file **ret, size_t *ret_count, wa_error *err)
{
    WA_CLEANUP(close_dirp) DIR *dir = opendir(spool->dir);
    if (dir == NULL)
        return wa_error_errno(err, errno, "could not open directory \"%s\": %m", spool->dir);
    WA_CLEANUP(wa_freep) wa_spool_file *files = NULL;
    size_t count = 0, capacity = 0;
    const struct dirent *entry;
    while ((entry = readdir(dir)) != NULL) {
        wa_spool_file file;
        if (!parse_name(spool, entry->d_name, &file))
            continue;
        WA_TRY(wa_spool_size(spool, &file.branch, file.segno, &file.size, err));
        if (count == capacity) {
            capacity = capacity == 0 ? 64 : capacity * 2;
            files = wa_reallocarray(files, capacity, sizeof files[0]);
        }
        files[count++] = file;
    }
    if (count > 0)
        qsort(files, count, sizeof files[0], compare_files);
    *ret = WA_TAKE(files);
    *ret_count = count;
    return WA_OK;
}

wa_status
wa_spool_open(const char *dir, uint64_t segment_size, wa_spool **ret, wa_error *err)
{
    WA_TRY(wa_mkdir_p(dir, 0700, err));
    WA_CLEANUP(wa_spool_freep) wa_spool *spool = wa_calloc(1, sizeof *spool);
    spool->dir = wa_strdup(dir);
    spool->segment_size = segment_size;
    spool->fd = -1;
    spool->lock_fd = -1;
    WA_CLEANUP(wa_freep) char *lock = wa_path_join(dir, "lock");
    if (wa_lock_file(lock, &spool->lock_fd, err) != WA_OK) {
        if (err->status == WA_CONFLICT)
            wa_error_hint(err, "Another walagent uses this spool: give each cluster its own "
                               "[agent] state_dir.");
        return wa_error_wrap(err, "could not lock the spool \"%s\"", dir);
    }
    WA_CLEANUP(wa_freep) wa_spool_file *files = NULL;
    size_t count = 0;
    WA_TRY(wa_spool_list(spool, &files, &count, err));
    for (size_t i = 0; i < count; i++)
        atomic_fetch_add(&spool->bytes, files[i].size);
    *ret = WA_TAKE(spool);
    return WA_OK;
}

void
wa_spool_free(wa_spool *spool)
{
    if (spool == NULL)
        return;
    wa_spool_end(spool);
    wa_closep(&spool->lock_fd);
    free(spool->dir);
    free(spool);
}

const char *
wa_spool_dir(const wa_spool *spool)
{
    return spool->dir;
}

uint64_t
wa_spool_segment_size(const wa_spool *spool)
{
    return spool->segment_size;
}

uint64_t
wa_spool_bytes(const wa_spool *spool)
{
    return atomic_load(&spool->bytes);
}

void
wa_spool_end(wa_spool *spool)
{
    wa_closep(&spool->fd);
}

wa_status
wa_spool_begin(wa_spool *spool, const wa_branch *branch, wa_segno segno, uint64_t *ret_size,
               wa_error *err)
{
    wa_spool_end(spool);
    WA_CLEANUP(wa_freep) char *path = file_path(spool, branch, segno);
    WA_CLEANUP(wa_closep) int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    struct stat st;
    if (fd < 0 || fstat(fd, &st) != 0)
        return wa_error_errno(err, errno, "could not open file \"%s\": %m", path);
    spool->branch = *branch;
    spool->segno = segno;
    spool->size = (uint64_t)st.st_size;
    spool->synced = 0; /* what an earlier process wrote may not have reached the disk */
    spool->name_synced = false;
    spool->fd = fd;
    fd = -1;
    *ret_size = spool->size;
    return WA_OK;
}

wa_status
wa_spool_append(wa_spool *spool, uint64_t offset, const void *data, size_t len, wa_error *err)
{
    WA_ASSERT(spool->fd >= 0 && offset == spool->size);
    WA_ASSERT(spool->size + len <= spool->segment_size);
    WA_CLEANUP(wa_freep) char *path = file_path(spool, &spool->branch, spool->segno);
    WA_TRY(wa_pwrite_all(spool->fd, data, len, (off_t)offset, path, err));
    spool->size += len;
    atomic_fetch_add(&spool->bytes, len);
    WA_CRASH_POINT("spool-written");
    return WA_OK;
}

uint64_t
wa_spool_unsynced(const wa_spool *spool)
{
    return spool->fd < 0 ? 0 : spool->size - spool->synced;
}

wa_status
wa_spool_sync(wa_spool *spool, wa_error *err)
{
    if (spool->fd < 0 || (spool->synced == spool->size && spool->name_synced))
        return WA_OK;
    WA_CLEANUP(wa_freep) char *path = file_path(spool, &spool->branch, spool->segno);
    if (fdatasync(spool->fd) != 0) {
        wa_error_errno(err, errno, "could not fsync file \"%s\": %m", path);
        /* The kernel may have dropped the dirty pages: what is not synced is not believed. */
        if (ftruncate(spool->fd, (off_t)spool->synced) == 0)
            atomic_fetch_sub(&spool->bytes, spool->size - spool->synced);
        wa_spool_end(spool);
        return err->status;
    }
    if (!spool->name_synced)
        WA_TRY(wa_fsync_dir(spool->dir, err));
    spool->name_synced = true;
    spool->synced = spool->size;
    WA_CRASH_POINT("spool-synced");
    return WA_OK;
}

wa_status
wa_spool_read(wa_spool *spool, const wa_branch *branch, wa_segno segno, uint64_t offset, void *out,
              size_t len, wa_error *err)
{
    WA_CLEANUP(wa_freep) char *path = file_path(spool, branch, segno);
    WA_CLEANUP(wa_closep) int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return wa_error_errno(err, errno, "could not open file \"%s\": %m", path);
    return wa_pread_all(fd, out, len, (off_t)offset, path, err);
}

wa_status
wa_spool_size(wa_spool *spool, const wa_branch *branch, wa_segno segno, uint64_t *ret,
              wa_error *err)
{
    WA_CLEANUP(wa_freep) char *path = file_path(spool, branch, segno);
    struct stat st;
    if (stat(path, &st) != 0)
        return wa_error_errno(err, errno, "could not stat file \"%s\": %m", path);
    *ret = (uint64_t)st.st_size;
    return WA_OK;
}

wa_status
wa_spool_truncate(wa_spool *spool, const wa_branch *branch, wa_segno segno, uint64_t size,
                  wa_error *err)
{
    WA_CLEANUP(wa_freep) char *path = file_path(spool, branch, segno);
    WA_CLEANUP(wa_closep) int fd = open(path, O_RDWR | O_CLOEXEC);
    struct stat st;
    if (fd < 0 || fstat(fd, &st) != 0)
        return wa_error_errno(err, errno, "could not open file \"%s\": %m", path);
    if ((uint64_t)st.st_size <= size)
        return WA_OK;
    if (ftruncate(fd, (off_t)size) != 0)
        return wa_error_errno(err, errno, "could not truncate file \"%s\": %m", path);
    atomic_fetch_sub(&spool->bytes, (uint64_t)st.st_size - size);
    return wa_fsync(fd, path, err);
}

wa_status
wa_spool_put(wa_spool *spool, const wa_branch *branch, wa_segno segno, const void *data, size_t len,
             wa_error *err)
{
    WA_TRY(wa_spool_remove(spool, branch, segno, err));
    WA_CLEANUP(wa_freep) char *path = file_path(spool, branch, segno);
    WA_TRY(wa_file_write(path, data, len, 0600, WA_WRITE_REPLACE, err));
    atomic_fetch_add(&spool->bytes, len);
    return WA_OK;
}

wa_status
wa_spool_remove(wa_spool *spool, const wa_branch *branch, wa_segno segno, wa_error *err)
{
    WA_CLEANUP(wa_freep) char *path = file_path(spool, branch, segno);
    uint64_t size = 0;
    if (wa_spool_size(spool, branch, segno, &size, err) != WA_OK)
        return err->status == WA_NOT_FOUND ? WA_OK : err->status;
    WA_CRASH_POINT("spool-before-remove");
    if (unlink(path) != 0 && errno != ENOENT)
        return wa_error_errno(err, errno, "could not remove file \"%s\": %m", path);
    atomic_fetch_sub(&spool->bytes, size);
    return WA_OK;
}

wa_status
wa_spool_name_branch(wa_spool *spool, const wa_branch *branch, wa_error *err)
{
    WA_CLEANUP(wa_freep) wa_spool_file *files = NULL;
    size_t count = 0;
    WA_TRY(wa_spool_list(spool, &files, &count, err));
    for (size_t i = 0; i < count; i++) {
        if (files[i].branch.tli != branch->tli || files[i].branch.id[0] != '\0')
            continue;
        WA_CLEANUP(wa_freep) char *from = file_path(spool, &files[i].branch, files[i].segno);
        WA_CLEANUP(wa_freep) char *to = file_path(spool, branch, files[i].segno);
        if (rename(from, to) != 0)
            return wa_error_errno(err, errno, "could not rename file \"%s\" to \"%s\": %m", from,
                                  to);
    }
    if (spool->fd >= 0 && spool->branch.tli == branch->tli)
        spool->branch = *branch;
    return wa_fsync_dir(spool->dir, err);
}
