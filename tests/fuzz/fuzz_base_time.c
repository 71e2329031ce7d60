/*
 * fuzz_base_time.c - any text as a time, and any time as text: what is printed reads back the same.
 */
#include "walagent/base/mem.h"
#include "walagent/base/time.h"

#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    wa_error err = WA_ERROR_INIT;
    wa_time t = 77;
    char out[WA_TIME_TEXT];
    WA_CLEANUP(wa_freep) char *text = wa_malloc(size + 1);
    if (size > 0)
        memcpy(text, data, size);
    text[size] = '\0';
    if (wa_time_parse(text, 0, &t, &err) == WA_OK) {
        wa_time again = 0;
        WA_ASSERT(t != WA_TIME_NONE);
        wa_time_format(t, out);
        /* Years outside 1 to 9999 come from "-…d" and from zones at the edges; they have no text.
         */
        if (t > -63082281600000000LL && t < 252455616000000000LL) {
            WA_ASSERT(wa_time_parse(out, 0, &again, &err) == WA_OK);
            WA_ASSERT(again == t);
        }
    } else {
        WA_ASSERT(t == 77 && err.status == WA_INVALID && err.hint[0] != '\0');
    }
    if (size >= sizeof t) {
        memcpy(&t, data, sizeof t);
        wa_time_format(t, out);
        wa_time_format_rfc3339(t, out);
        wa_time_format_compact(t, out);
    }
    return 0;
}
