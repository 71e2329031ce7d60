/*
 * src/repo/sinks.c - sinks into lines and into memory that overflows into a file; and
 * ranges over an object whose end was fetched with one request.
 */
#include "repo_internal.h"

#include "walagent/base/file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

typedef struct line_sink {
    wa_sink base;
    wa_buf pending; /* the line that is not complete */
    const char *name;
    wa_line_fn fn;
    void *arg;
} line_sink;

static wa_status
line_write(wa_sink *sink, const void *data, size_t len, wa_error *err)
{
    line_sink *l = (line_sink *)sink;
    const char *p = data, *end = p + len;
    while (p < end) {
        const char *newline = memchr(p, '\n', (size_t)(end - p));
        size_t part = (size_t)((newline == NULL ? end : newline) - p);
        if (newline != NULL && l->pending.len == 0) {
            WA_TRY(l->fn(l->arg, p, part, err));
            p = newline + 1;
            continue;
        }
        if (part > l->pending.max - l->pending.len)
            return wa_error_set(err, WA_CORRUPT, "a line of \"%s\" is longer than %zu bytes",
                                l->name, l->pending.max);
        WA_TRY(wa_buf_append(&l->pending, p, part, err));
        if (newline == NULL)
            return WA_OK;
        WA_TRY(l->fn(l->arg, wa_buf_str(&l->pending), l->pending.len, err));
        wa_buf_reset(&l->pending);
        p = newline + 1;
    }
    return WA_OK;
}

static wa_status
line_finish(wa_sink *sink, wa_error *err)
{
    line_sink *l = (line_sink *)sink;
    if (l->pending.len == 0)
        return WA_OK;
    return l->fn(l->arg, wa_buf_str(&l->pending), l->pending.len, err);
}

static void
line_free(wa_sink *sink)
{
    wa_buf_done(&((line_sink *)sink)->pending);
    free(sink);
}

wa_sink *
wa_sink_to_lines(size_t max, const char *name, wa_line_fn fn, void *arg)
{
    static const wa_sink_ops ops = {line_write, line_finish, line_free};
    line_sink *l = wa_calloc(1, sizeof *l);
    *l = (line_sink){.base = {&ops}, .name = name, .fn = fn, .arg = arg};
    wa_buf_init(&l->pending, max);
    return &l->base;
}

/* Twice what wa_container_open asks for: facts and seek table come with the first request. */
#define END_BYTES (128u * 1024)

struct wa_spill {
    wa_sink base;
    wa_buf memory;
    char *dir;
    int fd;          /* -1: all in memory */
    wa_store *store; /* fd is a draft of it; NULL: fd is our own file */
    uint64_t len;
};

/* The file has no name: nothing is left behind when the process is killed. */
static wa_status
spill_to_file(wa_spill *s, wa_error *err)
{
    WA_CLEANUP(wa_freep) char *path = wa_path_join(s->dir, WA_FILE_TMP_PREFIX "spill-XXXXXX");
    WA_CLEANUP(wa_closep) int fd = mkostemp(path, O_CLOEXEC);
    if (fd < 0)
        return wa_error_errno(err, errno, "could not create file \"%s\": %m", path);
    if (unlink(path) != 0)
        return wa_error_errno(err, errno, "could not remove file \"%s\": %m", path);
    WA_TRY(wa_write_all(fd, s->memory.data, s->memory.len, path, err));
    wa_buf_done(&s->memory);
    s->fd = fd;
    fd = -1;
    return WA_OK;
}

static wa_status
spill_write(wa_sink *sink, const void *data, size_t len, wa_error *err)
{
    wa_spill *s = (wa_spill *)sink;
    if (s->fd < 0 && len > s->memory.max - s->memory.len)
        WA_TRY(spill_to_file(s, err));
    if (s->store != NULL)
        WA_TRY(wa_store_draft_write(s->store, s->fd, s->len, data, len, err));
    else if (s->fd < 0)
        WA_TRY(wa_buf_append(&s->memory, data, len, err));
    else
        WA_TRY(wa_write_all(s->fd, data, len, s->dir, err));
    s->len += len;
    return WA_OK;
}

/* Freed by its owner with wa_spill_free. */
static void
spill_keep(wa_sink *sink)
{
    (void)sink;
}

wa_spill *
wa_spill_new(size_t limit, const char *dir)
{
    static const wa_sink_ops ops = {spill_write, NULL, spill_keep};
    wa_spill *s = wa_calloc(1, sizeof *s);
    s->base.ops = &ops;
    s->fd = -1;
    s->dir = wa_strdup(dir);
    wa_buf_init(&s->memory, limit);
    return s;
}

void
wa_spill_into(wa_spill *s, wa_store *store)
{
    WA_ASSERT(s->len == 0);
    s->fd = wa_store_draft(store);
    s->store = s->fd >= 0 ? store : NULL;
}

wa_sink *
wa_spill_sink(wa_spill *s)
{
    return &s->base;
}

wa_status
wa_spill_body(wa_spill *s, wa_body *ret, wa_error *err)
{
    if (s->fd < 0) {
        *ret = (wa_body){.data = wa_buf_str(&s->memory), .len = s->len, .fd = -1};
        return WA_OK;
    }
    if (s->store == NULL && fdatasync(s->fd) != 0)
        return wa_error_errno(err, errno, "could not synchronize a file in \"%s\": %m", s->dir);
    *ret = (wa_body){.fd = s->fd, .len = s->len};
    return WA_OK;
}

/* A draft that was put, and copied into mirrors. Its end (facts, index) is asked for soon. */
static void
let_go(const wa_spill *s)
{
    struct stat st;
    if (fstat(s->fd, &st) == 0 && st.st_nlink > 0)
        wa_file_let_go(s->fd, END_BYTES);
}

void
wa_spill_free(wa_spill *s)
{
    if (s == NULL)
        return;
    if (s->store != NULL)
        let_go(s);
    wa_buf_done(&s->memory);
    wa_closep(&s->fd);
    free(s->dir);
    free(s);
}

typedef struct end_ranges {
    wa_ranges base;
    wa_store *store;
    char *key;
    wa_buf end; /* the object's last bytes */
} end_ranges;

static wa_status
end_read(wa_ranges *ranges, uint64_t offset, void *out, size_t len, wa_error *err)
{
    end_ranges *e = (end_ranges *)ranges;
    if (offset > ranges->size || len > ranges->size - offset)
        return wa_error_set(err, WA_CORRUPT, "object \"%s\" ends at %llu, before %llu", e->key,
                            (unsigned long long)ranges->size, (unsigned long long)(offset + len));
    uint64_t begin = ranges->size - e->end.len;
    if (offset >= begin) {
        if (len > 0)
            memcpy(out, e->end.data + (offset - begin), len);
        return WA_OK;
    }
    WA_CLEANUP(wa_buf_done) wa_buf part = WA_BUF_INIT(len);
    WA_TRY(wa_store_get(e->store, e->key, offset, len, &part, NULL, err));
    if (part.len != len)
        return wa_error_set(err, WA_CORRUPT, "object \"%s\" gave %zu bytes at %llu instead of %zu",
                            e->key, part.len, (unsigned long long)offset, len);
    memcpy(out, part.data, len);
    return WA_OK;
}

static void
end_free(wa_ranges *ranges)
{
    end_ranges *e = (end_ranges *)ranges;
    wa_buf_done(&e->end);
    free(e->key);
    free(e);
}

wa_status
wa_repo_open_end(wa_repo *repo, const char *key, wa_ranges **ret, char **ret_meta, wa_error *err)
{
    static const wa_ranges_ops ops = {end_read, end_free};
    end_ranges *e = wa_calloc(1, sizeof *e);
    e->base.ops = &ops;
    e->store = wa_repo_store(repo);
    e->key = wa_strdup(key);
    e->base.name = e->key;
    wa_buf_init(&e->end, END_BYTES);
    WA_CLEANUP(wa_ranges_freep) wa_ranges *ranges = &e->base;
    WA_TRY(wa_store_get_tail(e->store, key, END_BYTES, &e->end, &e->base.size, ret_meta, err));
    if (e->end.len > e->base.size)
        return wa_error_set(err, WA_CORRUPT, "object \"%s\" gave more bytes than it has", key);
    *ret = WA_TAKE(ranges);
    return WA_OK;
}
