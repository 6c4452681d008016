/* The file of the operator's orders: whatever is read is written and read again as the same. */
#include "engine/core/check.h"
#include "engine/relay/operator_orders.h"
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
    struct operator_orders orders, again;
    char problem[OPERATOR_PROBLEM_MAX];
    unsigned line;
    if (operator_orders_read(&orders, slice_of(bytes, size), &line, problem) < 0) {
        check(problem[0] != '\0' && line >= 1);
        return 0;
    }
    char *text = operator_orders_write(&orders);
    check(text != NULL);
    check(operator_orders_read(&again, slice_text(text), &line, problem) == 0);
    check(again.suspension_count == orders.suspension_count &&
          again.reroute_count == orders.reroute_count);
    char *second = operator_orders_write(&again);
    check(second != NULL && strcmp(text, second) == 0);
    free(text);
    free(second);
    operator_orders_free(&orders);
    operator_orders_free(&again);
    return 0;
}
