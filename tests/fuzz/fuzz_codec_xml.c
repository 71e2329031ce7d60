/*
 * Fuzz target: XML from hostile servers.
 */
#include "walagent/base/error.h"
#include "walagent/codec/xml.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

static wa_status
count(void *arg, const char *path, const char *text, wa_error *err)
{
    (void)err;
    *(size_t *)arg += strlen(path) + (text ? strlen(text) : 0);
    return WA_OK;
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    wa_error err = WA_ERROR_INIT;
    size_t total = 0;

    if (wa_xml_parse((const char *)data, len, "input", count, &total, &err) != WA_OK)
        WA_ASSERT(err.status == WA_CORRUPT && err.message[0]);
    free(wa_xml_find((const char *)data, len, "Error/Code"));
    return 0;
}
