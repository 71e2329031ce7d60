/*
 * restore/chain.c - the backups below an incremental one: where their files are, and the manifest
 * and backup_label of what is built from them.
 */
#include "incremental_internal.h"

#include "walagent/base/bytes.h"
#include "walagent/base/crc32c.h"
#include "walagent/base/file.h"
#include "walagent/codec/container.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define LABEL_MAX 65536u

typedef struct located {
    uint64_t fingerprint; /* of the path alone */
    uint64_t size, offset;
    uint32_t pack, crc;
} located;

typedef struct below { /* one backup under the last one */
    char label[WA_LABEL_SIZE];
    located *items; /* sorted by fingerprint */
    size_t count, capacity;
} below;

typedef struct rebuilt {
    uint64_t fingerprint; /* of the built file's path */
    uint64_t size;
    uint32_t crc;
} rebuilt;

struct wa_chain {
    const wa_restore_options *o;
    below *backups; /* oldest first, without the last */
    size_t count;
    wa_mutex mutex;
    rebuilt *built;
    size_t built_count, built_capacity;
};

/* ---- where the files are ---- */

typedef struct indexing {
    below *b;
    const wa_expected *expected;
    size_t next;
} indexing;

static wa_status
index_file(void *arg, const wa_backup_file *f, wa_error *err)
{
    indexing *x = arg;
    below *b = x->b;
    if (f->type != 'f')
        return WA_OK;
    if (x->next >= x->expected->count ||
        x->expected->items[x->next].fingerprint != wa_path_fingerprint(f->path, f->size))
        return wa_error_set(err, WA_CORRUPT,
                            "the list of files of backup %s and its manifest disagree about \"%s\"",
                            b->label, f->path);
    if (b->count == b->capacity) {
        b->capacity = b->capacity == 0 ? 4096 : b->capacity + b->capacity / 2;
        b->items = wa_reallocarray(b->items, b->capacity, sizeof *b->items);
    }
    b->items[b->count++] = (located){wa_path_fingerprint(f->path, 0), f->size, f->offset, f->pack,
                                     x->expected->items[x->next++].crc};
    return WA_OK;
}

static int
compare_located(const void *a, const void *b)
{
    const located *x = a, *y = b;
    return x->fingerprint < y->fingerprint ? -1 : x->fingerprint > y->fingerprint;
}

static wa_status
index_backup(const wa_restore_options *o, below *b, wa_error *err)
{
    WA_CLEANUP(wa_expected_done) wa_expected expected = {0};
    WA_TRY(wa_expected_load(o->repo, b->label, NULL, &expected, err));
    indexing x = {.b = b, .expected = &expected};
    WA_TRY(wa_backup_files(o->repo, b->label, index_file, &x, err));
    if (b->count > 0)
        qsort(b->items, b->count, sizeof *b->items, compare_located);
    return WA_OK;
}

wa_status
wa_chain_load(const wa_restore_options *o, const wa_restore_plan *plan, wa_chain **ret,
              wa_error *err)
{
    WA_CLEANUP(wa_chain_freep) wa_chain *c = wa_calloc(1, sizeof *c);
    c->o = o;
    wa_mutex_init(&c->mutex);
    c->backups = wa_calloc(plan->chain_count, sizeof *c->backups);
    for (size_t i = 0; i + 1 < plan->chain_count; i++) {
        below *b = &c->backups[c->count++];
        memcpy(b->label, plan->chain[i]->label, sizeof b->label);
        WA_TRY(index_backup(o, b, err));
    }
    *ret = WA_TAKE(c);
    return WA_OK;
}

void
wa_chain_free(wa_chain *c)
{
    if (c == NULL)
        return;
    for (size_t i = 0; i < c->count; i++)
        wa_freep(&c->backups[i].items);
    wa_freep(&c->backups);
    wa_freep(&c->built);
    wa_mutex_done(&c->mutex);
    wa_freep(&c);
}

/* ---- a worker's readers ---- */

typedef struct reader {
    wa_frames *frames;
    wa_pack *pack;
    uint32_t number;
} reader;
struct wa_chain_readers {
    size_t count; /* one a backup below, one for the last */
    reader *items;
};

wa_chain_readers *
wa_chain_readers_new(const wa_chain *c)
{
    wa_chain_readers *r = wa_calloc(1, sizeof *r);
    r->count = c->count + 1;
    r->items = wa_calloc(r->count, sizeof *r->items);
    for (size_t i = 0; i < r->count; i++)
        r->items[i].frames = wa_frames_new();
    return r;
}

void
wa_chain_readers_free(wa_chain_readers *r)
{
    if (r == NULL)
        return;
    for (size_t i = 0; i < r->count; i++) {
        wa_frames_free(r->items[i].frames);
        wa_pack_release(r->items[i].pack);
    }
    wa_freep(&r->items);
    wa_freep(&r);
}

static wa_status
pack_of(const wa_chain *c, wa_chain_readers *r, size_t index, uint32_t number, wa_error *err)
{
    reader *x = &r->items[index];
    if (x->pack != NULL && x->number == number)
        return WA_OK;
    wa_pack_release(x->pack);
    x->pack = NULL;
    x->number = number;
    return wa_pack_open(c->o, c->backups[index].label, number, &x->pack, err);
}

/* ---- one file ---- */

static const located *
find(const below *b, const char *path)
{
    located key = {.fingerprint = wa_path_fingerprint(path, 0)};
    if (b->count == 0)
        return NULL;
    return bsearch(&key, b->items, b->count, sizeof key, compare_located);
}

/* What backup `index` has of the file; false when it has nothing. */
static wa_status
source_of(const wa_chain *c, wa_chain_readers *r, size_t index, const char *whole_path,
          const char *incremental_path, wa_chain_source *ret, bool *ret_found, wa_error *err)
{
    const located *at = find(&c->backups[index], whole_path);
    bool incremental = at == NULL;
    if (incremental)
        at = find(&c->backups[index], incremental_path);
    *ret_found = at != NULL;
    if (at == NULL)
        return WA_OK;
    WA_TRY(pack_of(c, r, index, at->pack, err));
    /* The path is only for messages and lives as long as the caller's. */
    char *name = wa_strdup(incremental ? incremental_path : whole_path);
    *ret = (wa_chain_source){
        .incremental = incremental,
        .file = {.path = name, .size = at->size, .offset = at->offset, .crc = at->crc},
        .pack = r->items[index].pack,
        .frames = r->items[index].frames};
    return WA_OK;
}

static void
note_built(wa_chain *c, const char *path, uint64_t size, uint32_t crc)
{
    WA_LOCK(&c->mutex);
    if (c->built_count == c->built_capacity) {
        c->built_capacity = c->built_capacity == 0 ? 1024 : c->built_capacity * 2;
        c->built = wa_reallocarray(c->built, c->built_capacity, sizeof *c->built);
    }
    c->built[c->built_count++] = (rebuilt){wa_path_fingerprint(path, 0), size, crc};
}

static wa_status
rebuild(wa_chain *c, wa_chain_readers *r, wa_chain_source *sources, size_t *count, wa_pack *pack,
        const wa_unit_file *file, const char *target, const char *path, wa_error *err)
{
    size_t last = c->count; /* filled from the end: the newest is the last one */
    sources[last] = (wa_chain_source){
        .incremental = true, .file = *file, .pack = pack, .frames = r->items[c->count].frames};
    sources[last].file.path = wa_strdup(file->path);
    *count = 1;
    bool whole = false;
    for (size_t i = c->count; i > 0 && !whole; i--) {
        bool found = false;
        WA_TRY(source_of(c, r, i - 1, target, file->path, &sources[last - *count], &found, err));
        if (!found)
            return wa_error_set(
                err, WA_CORRUPT, "backup %s has nothing of file \"%s\", which backup %s builds on",
                c->backups[i - 1].label, target, i < c->count ? c->backups[i].label : "above it");
        whole = !sources[last - *count].incremental;
        (*count)++;
    }
    if (!whole)
        return wa_error_set(err, WA_CORRUPT, "no backup of the chain has file \"%s\" whole",
                            target);
    uint64_t size = 0;
    uint32_t crc = 0;
    WA_TRY(wa_incremental_build(path, &sources[last + 1 - *count], *count, file, &size, &crc, err));
    note_built(c, target, size, crc);
    return WA_OK;
}

wa_status
wa_chain_rebuild(wa_chain *c, wa_chain_readers *r, wa_pack *pack, const wa_unit_file *file,
                 const char *path, wa_error *err)
{
    WA_CLEANUP(wa_freep) wa_chain_source *sources = wa_calloc(c->count + 1, sizeof *sources);
    WA_CLEANUP(wa_freep) char *target = wa_incremental_target(file->path);
    WA_ASSERT(target != NULL);
    size_t count = 0;
    wa_status status = rebuild(c, r, sources, &count, pack, file, target, path, err);
    for (size_t i = 0; i <= c->count; i++)
        wa_freep(&sources[i].file.path);
    return status;
}

/* ---- backup_label and manifest ---- */

/* Without the lines that say that it belongs to an incremental backup. */
static wa_status
rewrite_label(wa_chain *c, const wa_layout *l, wa_error *err)
{
    WA_CLEANUP(wa_freep) char *path = wa_path_join(l->root, "backup_label");
    WA_CLEANUP(wa_buf_done) wa_buf old = WA_BUF_INIT(LABEL_MAX);
    WA_CLEANUP(wa_buf_done) wa_buf text = WA_BUF_INIT(LABEL_MAX);
    WA_TRY(wa_file_read(path, LABEL_MAX, &old, err));
    for (const char *p = wa_buf_str(&old); *p != '\0';) {
        size_t n = strcspn(p, "\n");
        n += p[n] == '\n';
        if (!wa_str_starts(p, "INCREMENTAL FROM LSN: ") &&
            !wa_str_starts(p, "INCREMENTAL FROM TLI: "))
            WA_TRY(wa_buf_append(&text, p, n, err));
        p += n;
    }
    note_built(c, "backup_label", text.len, wa_crc32c(0, wa_buf_str(&text), text.len));
    struct stat st;
    mode_t mode = stat(path, &st) == 0 ? st.st_mode & 0777 : 0600;
    return wa_file_write(path, wa_buf_str(&text), text.len, mode, WA_WRITE_REPLACE, err);
}

typedef struct rewriting {
    wa_chain *c;
    wa_manifest_writer *writer;
    wa_sink *to;
    wa_buf text;
} rewriting;

static int
compare_rebuilt(const void *a, const void *b)
{
    const rebuilt *x = a, *y = b;
    return x->fingerprint < y->fingerprint ? -1 : x->fingerprint > y->fingerprint;
}

static wa_status
flush(rewriting *w, wa_error *err)
{
    WA_TRY(wa_sink_write(w->to, wa_buf_str(&w->text), w->text.len, err));
    wa_buf_reset(&w->text);
    return WA_OK;
}

static wa_status
rewrite_file(void *arg, const wa_manifest_file *file, wa_error *err)
{
    rewriting *w = arg;
    wa_manifest_file out = *file;
    WA_CLEANUP(wa_freep) char *target = wa_incremental_target(file->path);
    bool label = strcmp(file->path, "backup_label") == 0;
    if (target != NULL)
        out.path = target;
    if (target != NULL || label) {
        rebuilt key = {.fingerprint = wa_path_fingerprint(out.path, 0)};
        const rebuilt *b =
            bsearch(&key, w->c->built, w->c->built_count, sizeof key, compare_rebuilt);
        if (b == NULL)
            return wa_error_set(err, WA_CORRUPT, "file \"%s\" was not built", out.path);
        out.size = b->size;
        wa_put_u32le(out.checksum, b->crc);
    }
    WA_TRY(wa_manifest_write_file(w->writer, &out, &w->text, err));
    return w->text.len > 128 * 1024 ? flush(w, err) : WA_OK;
}

typedef struct feed_sink {
    wa_sink base;
    wa_manifest_parser *parser;
} feed_sink;

static wa_status
feed(wa_sink *sink, const void *data, size_t len, wa_error *err)
{
    return wa_manifest_feed(((feed_sink *)sink)->parser, data, len, err);
}

static wa_status
rewrite_manifest(rewriting *w, wa_repo *repo, const char *label, wa_error *err)
{
    static const wa_sink_ops ops = {feed, NULL, NULL};
    WA_CLEANUP(wa_ranges_freep) wa_ranges *ranges = NULL;
    WA_CLEANUP(wa_container_freep) wa_container *container = NULL;
    WA_TRY(wa_backup_open_manifest(repo, label, &ranges, &container, err));
    WA_CLEANUP(wa_manifest_parser_freep)
    wa_manifest_parser *parser = wa_manifest_parser_new(rewrite_file, w);
    feed_sink sink = {{&ops}, parser};
    wa_manifest_info info;
    WA_TRY(wa_container_read_all(container, NULL, &sink.base, err));
    WA_TRY(wa_manifest_end(parser, &info, err));
    WA_TRY(wa_manifest_write_end(w->writer, info.ranges, info.range_count, &w->text, err));
    return flush(w, err);
}

wa_status
wa_chain_finish(wa_chain *c, const wa_restore_options *o, const wa_restore_plan *plan,
                const wa_layout *l, wa_error *err)
{
    WA_TRY(rewrite_label(c, l, err));
    qsort(c->built, c->built_count, sizeof *c->built, compare_rebuilt);
    WA_CLEANUP(wa_freep) char *path = wa_path_join(l->root, "backup_manifest");
    WA_CLEANUP(wa_closep)
    int fd = wa_fetch_open(path, 0600);
    if (fd < 0)
        return wa_error_errno(err, errno, "could not create file \"%s\": %m", path);
    WA_CLEANUP(wa_sink_freep) wa_sink *to = wa_sink_to_fd(fd, path);
    WA_CLEANUP(wa_manifest_writer_freep)
    wa_manifest_writer *writer =
        wa_manifest_writer_new(2, wa_repo_cluster(o->repo)->system_identifier);
    rewriting w = {.c = c, .writer = writer, .to = to};
    wa_buf_init(&w.text, 4u * 1024 * 1024);
    wa_status status = rewrite_manifest(&w, o->repo, plan->backup->label, err);
    wa_buf_done(&w.text);
    WA_TRY(status);
    return wa_fsync(fd, path, err);
}
