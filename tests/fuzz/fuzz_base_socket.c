/*
 * Fuzz target: frames of the local socket from a hostile peer; what is accepted can be sent again.
 */
#include "walagent/base/file.h"
#include "walagent/base/socket.h"

#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define INPUT_MAX 65536u /* a socket pair takes this much without a reader */

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

static wa_status
pass(const void *data, size_t len, wa_strv *ret, wa_error *err)
{
    int fds[2];

    WA_ASSERT(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) == 0);
    WA_ASSERT(send(fds[0], data, len, MSG_NOSIGNAL) == (ssize_t)len);
    close(fds[0]);
    wa_status status = wa_socket_receive(fds[1], NULL, 1000, ret, err);
    close(fds[1]);
    return status;
}

static void
send_again(const wa_strv *fields)
{
    WA_CLEANUP(wa_strv_done) wa_strv again = {0};
    wa_error err = WA_ERROR_INIT;
    int fds[2];

    WA_ASSERT(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) == 0);
    WA_ASSERT(wa_socket_send(fds[0], fields, &err) == WA_OK);
    WA_ASSERT(wa_socket_receive(fds[1], NULL, 1000, &again, &err) == WA_OK);
    WA_ASSERT(again.count == fields->count);
    for (size_t i = 0; i < again.count; i++)
        WA_ASSERT(strcmp(again.items[i], fields->items[i]) == 0);
    close(fds[0]);
    close(fds[1]);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    WA_CLEANUP(wa_strv_done) wa_strv fields = {0};
    wa_error err = WA_ERROR_INIT;

    if (len > INPUT_MAX)
        return 0;
    wa_status status = pass(data, len, &fields, &err);
    if (status != WA_OK) {
        WA_ASSERT(status == WA_CORRUPT || status == WA_UNAVAILABLE);
        WA_ASSERT(fields.count == 0 && err.message[0] != '\0');
        return 0;
    }
    WA_ASSERT(fields.count > 0);
    send_again(&fields);
    return 0;
}
