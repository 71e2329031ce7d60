/*
 * restore/manifest.c - the backup's manifest: copied into the directory, checked, and kept as one
 * fingerprint and checksum a file, in its order.
 */
#include "restore_internal.h"

#include "walagent/base/bytes.h"
#include "walagent/base/file.h"
#include "walagent/codec/container.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

void
wa_expected_done(wa_expected *e)
{
    wa_freep(&e->items);
    e->count = e->capacity = 0;
}

uint64_t
wa_path_fingerprint(const char *path, uint64_t size)
{
    return wa_xxh_quick(size, path, strlen(path));
}

static wa_status
take_file(void *arg, const wa_manifest_file *file, wa_error *err)
{
    wa_expected *e = arg;
    if (file->algorithm != WA_MANIFEST_CRC32C || file->checksum_len != 4)
        return wa_error_set(err, WA_UNSUPPORTED,
                            "the manifest has a checksum of another kind than CRC32C for \"%s\"",
                            file->path);
    if (e->count == e->capacity) {
        e->capacity = e->capacity == 0 ? 4096 : e->capacity + e->capacity / 2;
        e->items = wa_reallocarray(e->items, e->capacity, sizeof *e->items);
    }
    e->items[e->count++] = (wa_expected_file){wa_path_fingerprint(file->path, file->size),
                                              wa_get_u32le(file->checksum)};
    return WA_OK;
}

/* Bytes go to the file (if there is one) and through the parser. */
typedef struct manifest_sink {
    wa_sink base;
    wa_manifest_parser *parser;
    wa_sink *copy;
} manifest_sink;

static wa_status
manifest_write(wa_sink *sink, const void *data, size_t len, wa_error *err)
{
    manifest_sink *s = (manifest_sink *)sink;
    if (s->copy != NULL)
        WA_TRY(wa_sink_write(s->copy, data, len, err));
    return wa_manifest_feed(s->parser, data, len, err);
}

static wa_status
read_manifest(wa_repo *repo, const char *label, wa_sink *copy, wa_expected *e, wa_error *err)
{
    static const wa_sink_ops ops = {manifest_write, NULL, NULL};
    WA_CLEANUP(wa_ranges_freep) wa_ranges *ranges = NULL;
    WA_CLEANUP(wa_container_freep) wa_container *container = NULL;
    WA_TRY(wa_backup_open_manifest(repo, label, &ranges, &container, err));
    WA_CLEANUP(wa_manifest_parser_freep)
    wa_manifest_parser *parser = wa_manifest_parser_new(take_file, e);
    manifest_sink sink = {{&ops}, parser, copy};
    wa_manifest_info info;
    wa_status status = wa_container_read_all(container, NULL, &sink.base, err);
    if (status == WA_OK)
        status = wa_manifest_end(parser, &info, err);
    if (status == WA_OK && info.system_identifier != 0 &&
        info.system_identifier != wa_repo_cluster(repo)->system_identifier)
        status = wa_error_set(err, WA_CORRUPT, "it belongs to another cluster");
    return status == WA_OK ? WA_OK : wa_error_wrap(err, "manifest \"%s\"", ranges->name);
}

wa_status
wa_expected_load(wa_repo *repo, const char *label, const char *to, wa_expected *ret, wa_error *err)
{
    WA_CLEANUP(wa_expected_done) wa_expected e = {0};
    if (to == NULL) {
        WA_TRY(read_manifest(repo, label, NULL, &e, err));
    } else {
        WA_CLEANUP(wa_closep)
        int fd = wa_fetch_open(to, 0600);
        if (fd < 0)
            return wa_error_errno(err, errno, "could not create file \"%s\": %m", to);
        WA_CLEANUP(wa_sink_freep) wa_sink *copy = wa_sink_to_fd(fd, to);
        WA_TRY(read_manifest(repo, label, copy, &e, err));
        WA_TRY(wa_fsync(fd, to, err));
    }
    *ret = e;
    e = (wa_expected){0};
    return WA_OK;
}
