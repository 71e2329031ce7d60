/*
 * manifest_write.c - a backup manifest as PostgreSQL writes it.
 *
 *   { "PostgreSQL-Backup-Manifest-Version": 2,
 *   "System-Identifier": 7317123456789012345,                                  (version 2 only)
 *   "Files": [
 *   { "Path": "x", "Size": 1, "Last-Modified": "... GMT", "Checksum-Algorithm": "CRC32C",
 *     "Checksum": "hex" },                                     (one line each, comma between)
 *   ],
 *   "WAL-Ranges": [
 *   { "Timeline": 1, "Start-LSN": "0/2000028", "End-LSN": "0/2000100" }
 *   ],
 *   "Manifest-Checksum": "SHA-256 of all the lines before this one"}
 */
#include "walagent/pg/manifest.h"

#include "walagent/base/buf.h"
#include "walagent/base/str.h"
#include "walagent/codec/hash.h"

#include <inttypes.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#define LINE_MAX_BYTES (64u * 1024)

struct wa_manifest_writer {
    int version;
    uint64_t system_identifier;
    bool begun;
    bool has_files;
    wa_digest *digest;
};

static const char *const algorithm_names[] = {
    [WA_MANIFEST_NONE] = "NONE",     [WA_MANIFEST_CRC32C] = "CRC32C",
    [WA_MANIFEST_SHA224] = "SHA224", [WA_MANIFEST_SHA256] = "SHA256",
    [WA_MANIFEST_SHA384] = "SHA384", [WA_MANIFEST_SHA512] = "SHA512",
};

const char *
wa_manifest_checksum_name(wa_manifest_checksum algorithm)
{
    return algorithm_names[algorithm];
}

bool
wa_manifest_checksum_parse(const char *name, wa_manifest_checksum *ret)
{
    for (size_t i = 0; i < WA_ARRAY_SIZE(algorithm_names); i++)
        if (strcasecmp(name, algorithm_names[i]) == 0) {
            *ret = (wa_manifest_checksum)i;
            return true;
        }
    return false;
}

wa_manifest_writer *
wa_manifest_writer_new(int version, uint64_t system_identifier)
{
    WA_ASSERT(version == 1 || version == 2);
    wa_manifest_writer *w = wa_calloc(1, sizeof *w);
    w->version = version;
    w->system_identifier = system_identifier;
    w->digest = wa_digest_new(WA_SHA256);
    return w;
}

void
wa_manifest_writer_free(wa_manifest_writer *w)
{
    if (w == NULL)
        return;
    wa_digest_free(w->digest);
    free(w);
}

/* Append `text` and count it into the manifest's checksum. */
static wa_status
emit(wa_manifest_writer *w, const wa_buf *text, wa_buf *out, wa_error *err)
{
    WA_TRY(wa_buf_append(out, wa_buf_str(text), text->len, err));
    wa_digest_update(w->digest, wa_buf_str(text), text->len);
    return WA_OK;
}

static void
add_head(const wa_manifest_writer *w, wa_buf *text)
{
    wa_buf_printf(text, "{ \"PostgreSQL-Backup-Manifest-Version\": %d,\n", w->version);
    if (w->version >= 2)
        wa_buf_printf(text, "\"System-Identifier\": %" PRIu64 ",\n", w->system_identifier);
    wa_buf_puts(text, "\"Files\": [");
}

static void
add_path(const char *path, wa_buf *text)
{
    json_t *string = json_stringn(path, strlen(path));
    char *quoted = string != NULL ? json_dumps(string, JSON_ENCODE_ANY) : NULL;
    json_decref(string);
    if (quoted != NULL) {
        wa_buf_printf(text, "{ \"Path\": %s", quoted);
        free(quoted);
        return;
    }
    WA_CLEANUP(wa_freep) char *hex = wa_malloc(2 * strlen(path) + 1);
    wa_buf_printf(text, "{ \"Encoded-Path\": \"%s\"", wa_hex(path, strlen(path), hex));
}

wa_status
wa_manifest_write_file(wa_manifest_writer *w, const wa_manifest_file *file, wa_buf *out,
                       wa_error *err)
{
    if (strlen(file->path) > LINE_MAX_BYTES / 8)
        return wa_error_set(err, WA_INVALID, "path of %zu bytes is too long for a manifest",
                            strlen(file->path));
    if (file->mtime[strcspn(file->mtime, "\"\\\r\n")] != '\0')
        return wa_error_set(err, WA_INVALID, "\"%s\" is no time for a manifest", file->mtime);
    WA_ASSERT(file->checksum_len == wa_manifest_checksum_size(file->algorithm));
    WA_CLEANUP(wa_buf_done) wa_buf text = WA_BUF_INIT(LINE_MAX_BYTES);
    if (!w->begun)
        add_head(w, &text);
    wa_buf_puts(&text, w->has_files ? ",\n" : "\n");
    add_path(file->path, &text);
    wa_buf_printf(&text, ", \"Size\": %" PRIu64 ", \"Last-Modified\": \"%s\"", file->size,
                  file->mtime);
    if (file->algorithm != WA_MANIFEST_NONE) {
        char hex[2 * sizeof file->checksum + 1];
        wa_buf_printf(&text, ", \"Checksum-Algorithm\": \"%s\", \"Checksum\": \"%s\"",
                      wa_manifest_checksum_name(file->algorithm),
                      wa_hex(file->checksum, file->checksum_len, hex));
    }
    wa_buf_puts(&text, " }");
    WA_TRY(emit(w, &text, out, err));
    w->begun = w->has_files = true;
    return WA_OK;
}

wa_status
wa_manifest_write_end(wa_manifest_writer *w, const wa_manifest_range *ranges, size_t count,
                      wa_buf *out, wa_error *err)
{
    WA_CLEANUP(wa_buf_done) wa_buf text = WA_BUF_INIT(LINE_MAX_BYTES);
    if (count > 64)
        return wa_error_set(err, WA_INVALID, "%zu WAL ranges are too many for a manifest", count);
    if (!w->begun)
        add_head(w, &text);
    wa_buf_puts(&text, "\n],\n\"WAL-Ranges\": [");
    for (size_t i = 0; i < count; i++) {
        char start[WA_LSN_TEXT], end[WA_LSN_TEXT];
        wa_buf_printf(&text, "%s{ \"Timeline\": %u, \"Start-LSN\": \"%s\", \"End-LSN\": \"%s\" }",
                      i > 0 ? ",\n" : "\n", ranges[i].tli, wa_lsn_format(ranges[i].start, start),
                      wa_lsn_format(ranges[i].end, end));
    }
    wa_buf_puts(&text, "\n],\n");
    uint8_t sum[WA_DIGEST_MAX];
    char hex[WA_SHA256_HEX];
    WA_TRY(wa_buf_reserve(out, text.len + 128, err)); /* all or nothing */
    WA_TRY(emit(w, &text, out, err));
    wa_digest_final(w->digest, sum);
    wa_buf_reset(&text);
    wa_buf_printf(&text, "\"Manifest-Checksum\": \"%s\"}\n", wa_hex(sum, 32, hex));
    w->begun = true;
    return wa_buf_append(out, wa_buf_str(&text), text.len, err);
}
