/*
 * Fuzz target: a container from hostile bytes. Whole, by range, its facts; nothing may crash, and
 * what unpack accepts must be what the ranges give.
 */
#include "walagent/codec/container.h"

#include <stdlib.h>
#include <string.h>

#define CONTENT_MAX (1u << 20)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

static void
read_by_range(wa_ranges *from, const wa_buf *whole)
{
    WA_CLEANUP(wa_container_freep) wa_container *c = NULL;
    WA_CLEANUP(wa_decoder_freep) wa_decoder *d = wa_decoder_new();
    WA_CLEANUP(wa_json_freep) json_t *bulky = NULL;
    wa_error err = WA_ERROR_INIT;

    if (wa_container_open(from, &c, &err) != WA_OK)
        return;
    (void)!wa_container_bulky(c, &bulky, &err);
    uint64_t size = wa_container_size(c);
    if (size < 3 || size > CONTENT_MAX)
        return;
    WA_CLEANUP(wa_freep) char *out = wa_malloc((size_t)size);
    if (wa_container_read(c, d, 1, out, (size_t)size - 2, &err) == WA_OK && whole->len > 0)
        WA_ASSERT(memcmp(out, whole->data + 1, (size_t)size - 2) == 0);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    WA_CLEANUP(wa_buf_done) wa_buf raw = WA_BUF_INIT(CONTENT_MAX);
    WA_CLEANUP(wa_ranges_freep) wa_ranges *from = wa_ranges_of_memory(data, len, "input");
    WA_CLEANUP(wa_json_freep) json_t *facts = NULL;
    wa_error err = WA_ERROR_INIT;

    if (wa_container_unpack(data, len, "input", &raw, &facts, &err) != WA_OK)
        WA_ASSERT(raw.len == 0 && !facts && err.message[0]);
    read_by_range(from, &raw);
    return 0;
}
