/*
 * Fuzz target: backup manifests, whole and cut in two; what is read can be written and read again.
 */
#include "walagent/base/buf.h"
#include "walagent/pg/manifest.h"

#include <stdint.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

typedef struct copy {
    wa_manifest_writer *writer;
    wa_buf out;
} copy;

static wa_status
write_file(void *arg, const wa_manifest_file *file, wa_error *err)
{
    copy *c = arg;
    WA_ASSERT(file->path[0] != '/' && file->path[0] != '\0');
    if (c == NULL)
        return WA_OK;
    /* The date is the one text that is passed on unparsed, and it isn't escaped. */
    wa_manifest_file dated = *file;
    dated.mtime = "2026-11-26 23:54:58 GMT";
    return wa_manifest_write_file(c->writer, &dated, &c->out, err);
}

static wa_status
parse(const uint8_t *data, size_t len, size_t cut, copy *c, wa_manifest_info *info, wa_error *err)
{
    WA_CLEANUP(wa_manifest_parser_freep)
    wa_manifest_parser *p = wa_manifest_parser_new(write_file, c);
    WA_TRY(wa_manifest_feed(p, data, cut, err));
    WA_TRY(wa_manifest_feed(p, data + cut, len - cut, err));
    return wa_manifest_end(p, info, err);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    wa_error err = WA_ERROR_INIT;
    wa_manifest_info info, again;
    wa_status whole = parse(data, len, 0, NULL, &info, &err);
    WA_ASSERT(parse(data, len, len / 2, NULL, &again, &err) == whole);
    if (whole != WA_OK) {
        WA_ASSERT(whole == WA_CORRUPT || whole == WA_UNSUPPORTED);
        return 0;
    }
    WA_CLEANUP(wa_manifest_writer_freep)
    wa_manifest_writer *writer = wa_manifest_writer_new(info.version, info.system_identifier);
    copy c = {writer, WA_BUF_INIT(64u << 20)};
    wa_status status = parse(data, len, len / 3, &c, &info, &err);
    if (status == WA_OK) {
        WA_ASSERT(wa_manifest_write_end(writer, info.ranges, info.range_count, &c.out, &err) ==
                  WA_OK);
        WA_ASSERT(parse((const uint8_t *)c.out.data, c.out.len, 1, NULL, &again, &err) == WA_OK);
        WA_ASSERT(again.files == info.files && again.bytes == info.bytes);
    }
    wa_buf_done(&c.out);
    return 0;
}
