/*
 * Fuzz target: a tar stream from hostile bytes; the first byte chooses the size of the pieces.
 */
#include "walagent/codec/tar.h"

#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

typedef struct source {
    const uint8_t *data;
    size_t len, step;
} source;

static wa_status
pull(void *arg, const void **ret_data, size_t *ret_len, wa_error *err)
{
    source *s = arg;
    size_t step = s->len < s->step ? s->len : s->step;

    (void)err;
    *ret_data = s->data;
    *ret_len = step;
    s->data += step;
    s->len -= step;
    return WA_OK;
}

static wa_status
read_entry(wa_tar_reader *r, const wa_tar_entry *e, wa_error *err)
{
    uint64_t total = 0;
    const void *piece;
    size_t got = 1;

    WA_ASSERT(e->path[0] && (e->type == WA_TAR_SYMLINK) == (e->link != NULL));
    while (got > 0) {
        WA_TRY(wa_tar_data(r, &piece, &got, err));
        total += got;
    }
    WA_ASSERT(total == e->size);
    return WA_OK;
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    WA_CLEANUP(wa_tar_reader_freep) wa_tar_reader *r = NULL;
    wa_error err = WA_ERROR_INIT;
    wa_tar_entry e;
    bool more = true;

    if (len == 0)
        return 0;
    source s = {data + 1, len - 1, 1 + (size_t)data[0] * 16};
    if (wa_tar_reader_new(pull, &s, &r, &err) != WA_OK)
        return 0;
    for (size_t i = 0; more && wa_tar_next(r, &e, &more, &err) == WA_OK && more; i++)
        if (i % 3 != 2 && read_entry(r, &e, &err) != WA_OK)
            break;
    return 0;
}
