/*
 * codec/stream.c - sinks into memory and descriptors, ranges of memory and files.
 */
#include "walagent/codec/stream.h"

#include "walagent/base/file.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

wa_status
wa_sink_write(wa_sink *sink, const void *data, size_t len, wa_error *err)
{
    return len == 0 ? WA_OK : sink->ops->write(sink, data, len, err);
}

wa_status
wa_sink_finish(wa_sink *sink, wa_error *err)
{
    return sink->ops->finish == NULL ? WA_OK : sink->ops->finish(sink, err);
}

void
wa_sink_free(wa_sink *sink)
{
    if (sink)
        sink->ops->free(sink);
}

/* Memory. */

typedef struct buf_sink {
    wa_sink base;
    wa_buf *buf;
} buf_sink;

static wa_status
buf_sink_write(wa_sink *sink, const void *data, size_t len, wa_error *err)
{
    return wa_buf_append(((buf_sink *)sink)->buf, data, len, err);
}

static void
buf_sink_free(wa_sink *sink)
{
    free(sink);
}

static const wa_sink_ops buf_sink_ops = {buf_sink_write, NULL, buf_sink_free};

wa_sink *
wa_sink_to_buf(wa_buf *buf)
{
    buf_sink *sink = wa_malloc(sizeof *sink);
    *sink = (buf_sink){{&buf_sink_ops}, buf};
    return &sink->base;
}

/* Fixed memory. */

typedef struct memory_sink {
    wa_sink base;
    char *out;
    size_t size;
    size_t *filled;
    const char *name;
} memory_sink;

static wa_status
memory_sink_write(wa_sink *sink, const void *data, size_t len, wa_error *err)
{
    memory_sink *m = (memory_sink *)sink;
    if (len > m->size - *m->filled)
        return wa_error_set(err, WA_CORRUPT, "object \"%s\" holds more than %zu bytes", m->name,
                            m->size);
    if (len > 0)
        memcpy(m->out + *m->filled, data, len);
    *m->filled += len;
    return WA_OK;
}

static void
memory_sink_free(wa_sink *sink)
{
    free(sink);
}

static const wa_sink_ops memory_sink_ops = {memory_sink_write, NULL, memory_sink_free};

wa_sink *
wa_sink_to_memory(void *out, size_t size, size_t *filled, const char *name)
{
    memory_sink *m = wa_calloc(1, sizeof *m);
    *m = (memory_sink){{&memory_sink_ops}, out, size, filled, name};
    *filled = 0;
    return &m->base;
}

/* Descriptors. */

typedef struct fd_sink {
    wa_sink base;
    int fd;
    char *name;
} fd_sink;

static wa_status
fd_sink_write(wa_sink *sink, const void *data, size_t len, wa_error *err)
{
    fd_sink *s = (fd_sink *)sink;
    return wa_write_all(s->fd, data, len, s->name, err);
}

static void
fd_sink_free(wa_sink *sink)
{
    free(((fd_sink *)sink)->name);
    free(sink);
}

static const wa_sink_ops fd_sink_ops = {fd_sink_write, NULL, fd_sink_free};

wa_sink *
wa_sink_to_fd(int fd, const char *name)
{
    fd_sink *sink = wa_malloc(sizeof *sink);
    *sink = (fd_sink){{&fd_sink_ops}, fd, wa_strdup(name)};
    return &sink->base;
}

/* Ranges. */

wa_status
wa_ranges_read(wa_ranges *ranges, uint64_t offset, void *out, size_t len, wa_error *err)
{
    if (offset > ranges->size || len > ranges->size - offset)
        return wa_error_set(err, WA_CORRUPT,
                            "\"%s\" ends at byte %" PRIu64 ", before %zu bytes at offset %" PRIu64,
                            ranges->name, ranges->size, len, offset);
    return len == 0 ? WA_OK : ranges->ops->read(ranges, offset, out, len, err);
}

void
wa_ranges_free(wa_ranges *ranges)
{
    if (ranges)
        ranges->ops->free(ranges);
}

typedef struct memory_ranges {
    wa_ranges base;
    const char *data;
} memory_ranges;

static wa_status
memory_read(wa_ranges *ranges, uint64_t offset, void *out, size_t len, wa_error *err)
{
    (void)err;
    memcpy(out, ((memory_ranges *)ranges)->data + offset, len);
    return WA_OK;
}

static void
memory_free(wa_ranges *ranges)
{
    free(ranges);
}

static const wa_ranges_ops memory_ops = {memory_read, memory_free};

wa_ranges *
wa_ranges_of_memory(const void *data, size_t len, const char *name)
{
    memory_ranges *r = wa_malloc(sizeof *r);
    *r = (memory_ranges){{&memory_ops, len, name}, data};
    return &r->base;
}

const void *
wa_ranges_in_memory(const wa_ranges *ranges, uint64_t offset, size_t len)
{
    if (ranges->ops != &memory_ops || offset > ranges->size || len > ranges->size - offset)
        return NULL;
    return ((const memory_ranges *)ranges)->data + offset;
}

typedef struct file_ranges {
    wa_ranges base;
    int fd;
    char *path;
} file_ranges;

static wa_status
file_read(wa_ranges *ranges, uint64_t offset, void *out, size_t len, wa_error *err)
{
    file_ranges *r = (file_ranges *)ranges;
    return wa_pread_all(r->fd, out, len, (off_t)offset, r->path, err);
}

static void
file_free(wa_ranges *ranges)
{
    file_ranges *r = (file_ranges *)ranges;
    wa_closep(&r->fd);
    free(r->path);
    free(r);
}

static const wa_ranges_ops file_ops = {file_read, file_free};

wa_status
wa_ranges_of_file(const char *path, wa_ranges **ret, wa_error *err)
{
    WA_CLEANUP(wa_closep) int fd = open(path, O_RDONLY | O_CLOEXEC);
    struct stat st;

    if (fd < 0)
        return wa_error_errno(err, errno, "could not open file \"%s\": %m", path);
    if (fstat(fd, &st) < 0)
        return wa_error_errno(err, errno, "could not stat file \"%s\": %m", path);
    if (!S_ISREG(st.st_mode))
        return wa_error_set(err, WA_INVALID, "\"%s\" is not a regular file", path);
    file_ranges *r = wa_malloc(sizeof *r);
    *r = (file_ranges){{&file_ops, (uint64_t)st.st_size, NULL}, fd, wa_strdup(path)};
    r->base.name = r->path;
    fd = -1;
    *ret = &r->base;
    return WA_OK;
}
