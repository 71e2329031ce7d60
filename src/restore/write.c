/*
 * restore/write.c - a restored file's bytes onto the disk.
 *
 * Whole blocks of large files go past the page cache (O_DIRECT): there they would cost a copy, and
 * all of them would have to be written at once at the end. Pieces begin and end where frames do,
 * which in a pack's tar is at a multiple of 512 bytes: what of a piece lies outside of whole blocks
 * is an ordinary write, and so is everything where the file system or the memory won't do.
 */
#include "restore_internal.h"

#include "walagent/base/file.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#define DIRECT_FROM (1024u * 1024) /* a file of that size; it is allocated before, too */
#define DIRECT_LEAST (64u * 1024)  /* of a piece: below that a request costs more than a copy */
#define BLOCK 4096u                /* of offset and length: no device asks for more */
#define MEMORY_ALIGN 512u          /* of a piece's address; a device that asks for more refuses */
#define WRITE_BACK_BYTES (16u * 1024 * 1024)

wa_status
wa_writer_open(wa_writer *w, int fd, const char *path, uint64_t size, wa_error *err)
{
    *w = (wa_writer){.fd = fd, .direct = -1, .path = path};
    if (size < DIRECT_FROM)
        return WA_OK;
    if (fallocate(fd, 0, 0, (off_t)size) != 0 && errno != EOPNOTSUPP && errno != ENOSYS &&
        errno != EINVAL)
        return wa_error_errno(err, errno, "could not allocate space for file \"%s\": %m", path);
    w->direct = open(path, O_WRONLY | O_DIRECT | O_CLOEXEC | O_NOFOLLOW); /* or not */
    return WA_OK;
}

void
wa_writer_close(wa_writer *w)
{
    wa_closep(&w->direct);
}

static wa_status
write_cached(wa_writer *w, uint64_t position, const uint8_t *data, size_t len, wa_error *err)
{
    WA_TRY(wa_pwrite_all(w->fd, data, len, (off_t)position, w->path, err));
    w->cached += len;
    uint64_t end = position + len;
    if (w->direct < 0 && end - w->written_back >= WRITE_BACK_BYTES) {
        /* The disk works while the rest is decompressed. */
        (void)sync_file_range(w->fd, (off_t)w->written_back, (off_t)(end - w->written_back),
                              SYNC_FILE_RANGE_WRITE);
        w->written_back = end;
    }
    return WA_OK;
}

/* Whole blocks; *ret_len: how many bytes are written. Where that doesn't go it is not tried again.
 */
static wa_status
write_direct(wa_writer *w, uint64_t position, const uint8_t *data, size_t len, size_t *ret_len,
             wa_error *err)
{
    size_t done = 0;
    while (done < len && done % BLOCK == 0) {
        ssize_t n = pwrite(w->direct, data + done, len - done, (off_t)(position + done));
        if (n < 0 && errno == EINTR)
            continue;
        if (n == 0 || (n < 0 && (errno == EINVAL || errno == EOPNOTSUPP))) {
            wa_closep(&w->direct);
            w->written_back = position;
            break;
        }
        if (n < 0)
            return wa_error_errno(err, errno, "could not write to file \"%s\": %m", w->path);
        done += (size_t)n;
    }
    *ret_len = done;
    return WA_OK;
}

wa_status
wa_writer_put(wa_writer *w, uint64_t position, const uint8_t *data, size_t len, wa_error *err)
{
    size_t head = (size_t)((BLOCK - position % BLOCK) % BLOCK);
    if (w->direct < 0 || len < DIRECT_LEAST || ((uintptr_t)data + head) % MEMORY_ALIGN != 0)
        return write_cached(w, position, data, len, err);
    if (head > 0)
        WA_TRY(write_cached(w, position, data, head, err));
    size_t blocks = (len - head) / BLOCK * BLOCK, done = 0;
    WA_TRY(write_direct(w, position + head, data + head, blocks, &done, err));
    done += head;
    return done == len ? WA_OK : write_cached(w, position + done, data + done, len - done, err);
}
