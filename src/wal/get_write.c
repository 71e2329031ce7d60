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

/* The disk begins with the first part while the next ones are copied. */
static wa_status
write_parts(int fd, const uint8_t *data, size_t len, bool durable, const char *path, wa_error *err)
{
    for (size_t at = 0, part; at < len; at += part) {
        part = len - at < PART ? len - at : PART;
        WA_TRY(wa_write_all(fd, data + at, part, path, err));
        if (durable)
            wa_file_begin_writeback(fd, at, part);
    }
    return WA_OK;
}

static wa_status
fill(const char *path, const void *data, size_t len, size_t size, bool durable, wa_error *err)
{
    WA_CLEANUP(wa_closep) int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (fd < 0)
        return wa_error_errno(err, errno, "could not create file \"%s\": %m", path);
    WA_TRY(write_parts(fd, data, len, durable, path, err));
    if (len < size && ftruncate(fd, (off_t)size) != 0)
        return wa_error_errno(err, errno, "could not extend file \"%s\": %m", path);
    if (durable)
        WA_TRY(wa_fsync(fd, path, err));
    int closing = fd;
    fd = -1;
    if (close(closing) != 0)
        return wa_error_errno(err, errno, "could not close file \"%s\": %m", path);
    return WA_OK;
}

wa_status
wa_get_write(const char *target, const void *data, size_t len, size_t size, bool durable,
             wa_error *err)
{
    WA_CLEANUP(wa_freep) char *tmp = temporary_name(target);
    wa_status status = fill(tmp, data, len, size, durable, err);
    if (status == WA_OK && rename(tmp, target) != 0)
        status =
            wa_error_errno(err, errno, "could not rename file \"%s\" to \"%s\": %m", tmp, target);
    if (status != WA_OK) {
        (void)unlink(tmp);
        if (status == WA_NOT_FOUND)
            err->status = WA_IO; /* "not found" is said of the archive only */
        return err->status;
    }
    return durable ? wa_fsync_parent(target, err) : WA_OK;
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
