/*
 * manifest_check.c - the server's manifest on its way into the archive: every file it names must be
 * the next one that was copied, byte for byte.
 */
#include "backup_internal.h"

struct wa_manifest_check {
    const wa_fingerprints *expected;
    size_t next;
    wa_manifest_parser *parser;
    wa_sink *object;
    wa_container_writer *container;
    char label[WA_LABEL_SIZE];
};

wa_status
wa_backup_begin_manifest(wa_repo *repo, const char *label, int level, wa_sink **ret_object,
                         wa_container_writer **ret, wa_error *err)
{
    WA_CLEANUP(wa_sink_freep) wa_sink *object = NULL;
    WA_CLEANUP(wa_freep) char *key = wa_backup_key(repo, label, "backup_manifest.zst");
    WA_CLEANUP(wa_freep)
    char *meta = wa_format("{\"v\":1,\"kind\":\"manifest\",\"label\":\"%s\"}", label);
    WA_TRY(wa_store_sink_new(wa_repo_store(repo), key, meta, 1, &object, err));
    WA_TRY(wa_container_writer_new(object, NULL, level, WA_FRAME_TAIL, ret, err));
    *ret_object = WA_TAKE(object);
    return WA_OK;
}

wa_status
wa_backup_commit_manifest(const char *label, wa_sink *object, wa_container_writer *container,
                          uint64_t *ret_stored, wa_error *err)
{
    WA_CLEANUP(wa_json_freep) json_t *facts = json_object();
    wa_json_set_string(facts, "kind", "manifest");
    wa_json_set_string(facts, "label", label);
    WA_TRY(wa_container_finish(container, facts, NULL, err));
    WA_TRY(wa_sink_finish(object, err));
    *ret_stored = wa_container_stored_size(container);
    return WA_OK;
}

static wa_status
check_file(void *arg, const wa_manifest_file *file, wa_error *err)
{
    wa_manifest_check *m = arg;
    if (m->next >= m->expected->count)
        return wa_error_set(err, WA_CORRUPT,
                            "the manifest names \"%s\", which the server did not send", file->path);
    uint64_t got = wa_fingerprint(file->path, file->size, file->checksum, file->checksum_len);
    if (got != m->expected->items[m->next])
        return wa_error_set(err, WA_CORRUPT, "file \"%s\" differs from the server's manifest",
                            file->path);
    m->next++;
    return WA_OK;
}

wa_status
wa_manifest_check_new(wa_repo *repo, const char *label, const wa_fingerprints *expected, int level,
                      wa_manifest_check **ret, wa_error *err)
{
    WA_CLEANUP(wa_manifest_check_freep) wa_manifest_check *m = wa_calloc(1, sizeof *m);
    m->expected = expected;
    m->parser = wa_manifest_parser_new(check_file, m);
    snprintf(m->label, sizeof m->label, "%s", label);
    WA_TRY(wa_backup_begin_manifest(repo, label, level, &m->object, &m->container, err));
    *ret = WA_TAKE(m);
    return WA_OK;
}

wa_status
wa_manifest_check_write(wa_manifest_check *m, const void *data, size_t len, wa_error *err)
{
    WA_TRY(wa_manifest_feed(m->parser, data, len, err));
    return wa_container_write(m->container, data, len, err);
}

wa_status
wa_manifest_check_finish(wa_manifest_check *m, wa_manifest_info *ret, uint64_t *ret_stored,
                         wa_error *err)
{
    WA_TRY(wa_manifest_end(m->parser, ret, err));
    if (m->next != m->expected->count)
        return wa_error_set(err, WA_CORRUPT, "the server sent %zu files and its manifest names %zu",
                            m->expected->count, m->next);
    return wa_backup_commit_manifest(m->label, m->object, m->container, ret_stored, err);
}

void
wa_manifest_check_free(wa_manifest_check *m)
{
    if (m == NULL)
        return;
    wa_manifest_parser_free(m->parser);
    wa_container_writer_free(m->container);
    wa_sink_free(m->object);
    wa_freep(&m);
}
