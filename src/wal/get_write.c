/*
 * get_write.c - a file appears whole or not at all; and what was served before.
 *
 *   <PGDATA>/pgsql_tmp_walagent/pgsql_tmp_served    "<SEG24> <16 hex digits>\n": the unfinished
 *                                                   segment served last, and up to where
 */
#include "get_internal.h"

#include "walagent/base/file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define SERVED_FILE "pgsql_tmp_served"
#define PART (512u << 10)

/* PostgreSQL removes files of this name from pg_wal when it starts, should we be killed. */
static char *
temporary_name(const char *target)
{
    static atomic_uint number;
    WA_CLEANUP(wa_freep) char *dir = wa_path_dir(target);
    return wa_format("%s/xlogtemp.walagent-%d-%u", dir, (int)getpid(),
                     atomic_fetch_add(&number, 1));
}

/* "Not found" is said of the archive only. */
static wa_status
not_of_the_archive(wa_error *err)
{
    if (err->status == WA_NOT_FOUND)
        err->status = WA_IO;
    return err->status;
}

wa_status
wa_get_draft_open(wa_get_draft *d, const char *target, bool durable, wa_error *err)
{
    WA_ASSERT(d->path == NULL);
    d->durable = durable;
    d->path = temporary_name(target);
    d->fd = open(d->path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (d->fd >= 0)
        return WA_OK;
    wa_error_errno(err, errno, "could not create file \"%s\": %m", d->path);
    return not_of_the_archive(err);
}

/* The disk begins with the first part while the next ones are copied. */
wa_status
wa_get_draft_write(const wa_get_draft *d, uint64_t offset, const void *data, size_t len,
                   wa_error *err)
{
    for (size_t at = 0, part; at < len; at += part) {
        part = len - at < PART ? len - at : PART;
        WA_TRY(wa_pwrite_all(d->fd, (const uint8_t *)data + at, part, (off_t)(offset + at), d->path,
                             err));
        if (d->durable)
            wa_file_begin_writeback(d->fd, offset + at, part);
    }
    return WA_OK;
}

static wa_status
complete(wa_get_draft *d, uint64_t size, wa_error *err)
{
    struct stat st;
    if (fstat(d->fd, &st) != 0)
        return wa_error_errno(err, errno, "could not access file \"%s\": %m", d->path);
    if ((uint64_t)st.st_size < size && ftruncate(d->fd, (off_t)size) != 0)
        return wa_error_errno(err, errno, "could not extend file \"%s\": %m", d->path);
    if (d->durable)
        WA_TRY(wa_fsync(d->fd, d->path, err));
    int closing = d->fd;
    d->fd = -1;
    if (close(closing) != 0)
        return wa_error_errno(err, errno, "could not close file \"%s\": %m", d->path);
    return WA_OK;
}

wa_status
wa_get_draft_publish(wa_get_draft *d, const char *target, uint64_t size, wa_error *err)
{
    wa_status status = complete(d, size, err);
    if (status == WA_OK && rename(d->path, target) != 0)
        status = wa_error_errno(err, errno, "could not rename file \"%s\" to \"%s\": %m", d->path,
                                target);
    if (status != WA_OK)
        return not_of_the_archive(err);
    wa_freep(&d->path);
    return d->durable ? wa_fsync_parent(target, err) : WA_OK;
}

void
wa_get_draft_done(wa_get_draft *d)
{
    wa_closep(&d->fd);
    if (d->path != NULL)
        (void)unlink(d->path);
    wa_freep(&d->path);
}

wa_status
wa_get_write(const char *target, const void *data, size_t len, size_t size, bool durable,
             wa_error *err)
{
    WA_CLEANUP(wa_get_draft_done) wa_get_draft draft = WA_GET_DRAFT_INIT;
    WA_TRY(wa_get_draft_open(&draft, target, durable, err));
    WA_TRY(wa_get_draft_write(&draft, 0, data, len, err));
    return wa_get_draft_publish(&draft, target, size, err);
}

static char *
served_path(const char *data_dir)
{
    return wa_format("%s/%s/%s", data_dir, WA_HOOK_DIR, SERVED_FILE);
}

wa_lsn
wa_get_served(const char *data_dir, const char *name)
{
    wa_error ignored = WA_ERROR_INIT;
    WA_CLEANUP(wa_buf_done) wa_buf text = WA_BUF_INIT(128);
    WA_CLEANUP(wa_freep) char *path = served_path(data_dir);
    wa_lsn end = 0;
    char hex[17];
    if (wa_file_read(path, 128, &text, &ignored) != WA_OK || text.len < 41 ||
        strncmp(text.data, name, 24) != 0)
        return 0;
    memcpy(hex, text.data + 25, 16);
    hex[16] = '\0';
    return wa_lsn_parse_hex(hex, &end) ? end : 0;
}

wa_status
wa_get_remember_served(const char *data_dir, const char *name, wa_lsn end, wa_error *err)
{
    WA_CLEANUP(wa_freep) char *dir = wa_path_join(data_dir, WA_HOOK_DIR);
    WA_CLEANUP(wa_freep) char *path = served_path(data_dir);
    char hex[WA_LSN_TEXT];
    if (wa_get_served(data_dir, name) == end)
        return WA_OK;
    WA_CLEANUP(wa_freep) char *text = wa_format("%s %s\n", name, wa_lsn_hex(end, hex));
    WA_TRY(wa_mkdir_p(dir, 0700, err));
    return wa_file_write(path, text, strlen(text), 0600, WA_WRITE_REPLACE, err);
}
