/*
 * Fuzz target: timeline history files. What is accepted must keep the promises of the header.
 */
#include "walagent/pg/timeline.h"

#include <stdint.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    WA_CLEANUP(wa_history_freep) wa_history *h = NULL;
    wa_error err = WA_ERROR_INIT;
    wa_status status = wa_history_parse(100, (const char *)data, len, &h, &err);

    WA_ASSERT(status == WA_OK || status == WA_CORRUPT);
    if (status != WA_OK)
        return 0;
    WA_ASSERT(h->count > 0 && wa_history_parent(h) < 100);
    for (size_t i = 0; i < h->count; i++) {
        const wa_history_entry *e = &h->entries[i];
        WA_ASSERT(i == 0 || (e->tli > e[-1].tli && e->end >= e[-1].end));
        WA_ASSERT(wa_history_has(h, e->tli) && wa_history_end_of(h, e->tli) == e->end);
        WA_ASSERT(wa_history_tli_at(h, e->end) > e->tli);
    }
    return 0;
}
