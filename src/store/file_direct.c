/*
 * src/store/file_direct.c - parts of an upload past the page cache (O_DIRECT).
 *
 * What nobody reads soon is not worth a copy into pages that the server could use: a tenth of a
 * backup's processor time. Where the file system or the memory won't do, and for what comes behind
 * the last whole block, it is an ordinary write.
 */
#include "file_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#define BLOCK 4096u /* of memory, offset and length; no device asks for more */

int
wa_fs_open_direct(const char *path)
{
    return open(path, O_WRONLY | O_DIRECT | O_CLOEXEC | O_NOFOLLOW);
}

/* How many of the whole blocks are written; fewer where an ordinary write must go on. */
static wa_status
write_blocks(const wa_fs *fs, int direct, const char *data, size_t len, uint64_t offset,
             const char *path, size_t *ret, wa_error *err)
{
    size_t done = 0;
    while (len - done >= BLOCK && done % BLOCK == 0) {
        size_t left = len - done;
        ssize_t n = pwrite(direct, data + done, left - left % BLOCK, (off_t)(offset + done));
        if (n < 0 && errno == EINTR)
            continue;
        if (n == 0 || (n < 0 && (errno == EINVAL || errno == EOPNOTSUPP)))
            break;
        if (n < 0)
            return wa_fs_fail(fs, errno, "write file", path, err);
        done += (size_t)n;
    }
    *ret = done;
    return WA_OK;
}

wa_status
wa_fs_write_part(const wa_fs *fs, int direct, int fd, const void *data, size_t len, uint64_t offset,
                 const char *path, wa_error *err)
{
    size_t done = 0;
    if (direct >= 0 && (uintptr_t)data % BLOCK == 0 && offset % BLOCK == 0)
        WA_TRY(write_blocks(fs, direct, data, len, offset, path, &done, err));
    if (done == len)
        return WA_OK;
    WA_TRY(wa_fs_write(fs, fd, (const char *)data + done, len - done, offset + done, "write file",
                       path, err));
    wa_fs_start_write_back(fd, offset + done, len - done);
    return WA_OK;
}
