/* Which addresses an address of an envelope stands for. */
#include "engine/core/check.h"
#include "engine/relay/rewrite.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>
#include <cmocka.h>

static struct lookup *lookup;
static struct rewrite_rules rules;
static struct map *opened[16];
static unsigned opened_count;

static void use(struct rewrite_maps *maps, const char *name)
{
    char problem[MAP_PROBLEM_MAX];
    struct map *map;
    if (map_open(&map, name, problem) < 0) {
        fail_msg("%s", problem);
    }
    maps->maps = realloc(maps->maps, (maps->count + 1) * sizeof(struct map *));
    maps->maps[maps->count++] = map;
    opened[opened_count++] = map;
}

static int set_up(void **state)
{
    static const char *const local[] = {"local.test"};
    (void)state;
    rules = (struct rewrite_rules){
        .hostname = "mx.test", .local_domains = local, .local_domains_count = 1, .extension = '+'};
    return lookup_open(&lookup, &(struct lookup_settings){0});
}

static int tear_down(void **state)
{
    struct rewrite_maps *all[] = {&rules.sender_canonical, &rules.recipient_canonical,
                                  &rules.virtual_aliases, &rules.aliases};
    (void)state;
    lookup_close(lookup);
    while (opened_count > 0) {
        map_close(opened[--opened_count]);
    }
    for (size_t i = 0; i < sizeof(all) / sizeof(*all); i++) {
        free(all[i]->maps);
    }
    return 0;
}

/* The result as one text: addresses with blanks between, or what is wrong. */
static const char *text_of(struct rewrite_job *job)
{
    static const char *const wrong[] = {"", "failed", "too many", "loop", "wrong"};
    static char text[4096];
    size_t used = 0;
    if (job->status != REWRITE_OK) {
        assert_string_not_equal(job->reason, "");
        snprintf(text, sizeof(text), "!%s", wrong[job->status]);
    } else {
        text[0] = '\0';
        for (uint32_t i = 0; i < job->address_count && used < sizeof(text) - 400; i++) {
            used += (size_t)snprintf(text + used, sizeof(text) - used, "%s%.*s", i > 0 ? " " : "",
                                     (int)job->addresses[i].size,
                                     (const char *)job->addresses[i].bytes);
        }
    }
    rewrite_job_end(job);
    return text;
}

static const char *recipient(const char *address)
{
    struct rewrite_job job = {0};
    assert_int_equal(rewrite_recipient(&job, lookup, &rules, slice_text(address)), 0);
    return text_of(&job);
}

static const char *sender(const char *address)
{
    struct rewrite_job job = {0};
    assert_int_equal(rewrite_sender(&job, lookup, &rules, slice_text(address)), 0);
    return text_of(&job);
}

static void without_maps_an_address_stands_for_itself(void **state)
{
    (void)state;
    assert_string_equal(recipient("Jo+tag@Example.test"), "Jo+tag@Example.test");
    assert_string_equal(recipient("postmaster"), "postmaster");
    assert_string_equal(sender("a@b.test"), "a@b.test");
}

static void virtual_aliases_are_found_by_every_form_of_an_address(void **state)
{
    static const char *const cases[][2] = {
        {"exact@a.test", "one@x.test"},
        {"EXACT@A.TEST", "one@x.test"},
        {"plain+news@a.test", "two+news@x.test"}, /* the tag goes on */
        {"plain@a.test", "two@x.test"},
        {"full+tag@a.test", "three@x.test"},  /* with it, it was found */
        {"own+t@a.test", "four+keep@x.test"}, /* the result has a tag of its own */
        {"who@local.test", "five@x.test"},    /* by the user alone, where the domain is ours */
        {"who+t@mx.test", "five+t@x.test"},
        {"who@a.test", "who@a.test"},
        {"any@all.test", "rest@x.test"},
        {"any+t@all.test", "rest@x.test"},
        {"jo+t@moved.test", "jo+t@new.test"}, /* "@domain" keeps the user */
        {"bare@a.test", "bare2@mx.test"},     /* ours, when it names no domain */
        {"group@a.test", "g1@x.test g2@x.test \"g 3\"@x.test"},
        {"first@chain.test", "last@chain.test"},
        {"keep@a.test", "keep@a.test copy@x.test"},
    };
    (void)state;
    use(&rules.virtual_aliases,
        "inline:{exact@a.test=one@x.test, plain@a.test=two@x.test, full+tag@a.test=three@x.test,"
        "own@a.test=four+keep@x.test, who=five@x.test, bare@a.test=bare2, @moved.test=@new.test}");
    use(&rules.virtual_aliases,
        "inline:{exact@a.test=never@x.test, @all.test=rest@x.test,"
        "{group@a.test=g1@x.test, <g2@x.test>  \"g 3\"@x.test g1@x.test}, "
        "first@chain.test=mid@chain.test,"
        "mid@chain.test=last@chain.test, {keep@a.test=keep@a.test, copy@x.test}}");
    for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
        assert_string_equal(recipient(cases[i][0]), cases[i][1]);
    }
}

static void patterns_see_whole_addresses_only(void **state)
{
    char path[] = "/tmp/rewrite-XXXXXX", name[64];
    static const char text[] =
        "/^[^@]*$/ never@x.test\n/^@/ never@x.test\n/^(.*)\\+(.*)@p\\.test$/ $1@$2.test\n";
    (void)state;
    int fd = mkstemp(path);
    assert_true(fd >= 0 && write(fd, text, sizeof(text) - 1) > 0);
    snprintf(name, sizeof(name), "pcre:%s", path);
    use(&rules.virtual_aliases, name);
    assert_string_equal(recipient("Jo+News@p.test"), "Jo@News.test");
    assert_string_equal(recipient("jo@local.test"), "jo@local.test");
    struct rewrite_job job = {0};
    assert_int_equal(rewrite_recipient(&job, lookup, &rules, slice_text("a+b@p.test")), 0);
    assert_true(job.by_pattern);
    rewrite_job_end(&job);
    assert_int_equal(rewrite_recipient(&job, lookup, &rules, slice_text("a@local.test")), 0);
    assert_false(job.by_pattern); /* it was asked and said nothing */
    rewrite_job_end(&job);
    close(fd);
    unlink(path);
}

static void canonical_names_are_looked_up_once_and_come_first(void **state)
{
    (void)state;
    use(&rules.recipient_canonical,
        "inline:{a@x.test=b@x.test, b@x.test=c@x.test, @old.test=@x.test}");
    use(&rules.virtual_aliases, "inline:{b@x.test=v@x.test}");
    use(&rules.sender_canonical,
        "inline:{a@x.test=b@x.test, b@x.test=c@x.test, @old.test=@new.test}");
    assert_string_equal(recipient("a@x.test"), "v@x.test");
    assert_string_equal(recipient("b@x.test"), "c@x.test");
    assert_string_equal(recipient("u+t@old.test"), "u+t@x.test");
    assert_string_equal(sender("a@x.test"), "b@x.test");
    assert_string_equal(sender("b@x.test"), "c@x.test");
    assert_string_equal(sender("u@old.test"), "u@new.test");
    assert_string_equal(sender("z@x.test"), "z@x.test");
}

static void aliases_are_of_local_domains_and_run_nothing(void **state)
{
    (void)state;
    use(&rules.aliases, "inline:{postmaster=root, root=admin@x.test, {team=jo, al@x.test, \\team},"
                        "pipe=\"|/bin/true\", file=/var/mail/x, inc=:include:/nowhere, self=self}");
    use(&rules.virtual_aliases, "inline:{jo@mx.test=jo@far.test}");
    assert_string_equal(recipient("postmaster@local.test"), "admin@x.test");
    assert_string_equal(recipient("Postmaster"), "admin@x.test");
    assert_string_equal(recipient("root+t@mx.test"), "admin@x.test");
    assert_string_equal(recipient("team@mx.test"), "team@mx.test al@x.test jo@far.test");
    assert_string_equal(recipient("self@mx.test"), "self@mx.test");
    assert_string_equal(recipient("root@a.test"), "root@a.test");
    assert_string_equal(recipient("nobody@local.test"), "nobody@local.test");
    assert_string_equal(recipient("pipe@local.test"), "!wrong");
    assert_string_equal(recipient("file@local.test"), "!wrong");
    assert_string_equal(recipient("inc@local.test"), "!wrong");
}

/* "address<owner address", or "address" where there is no owner. */
static const char *owners(const char *address)
{
    static char text[4096];
    struct rewrite_job job = {0};
    size_t used = 0;
    text[0] = '\0';
    assert_int_equal(rewrite_recipient(&job, lookup, &rules, slice_text(address)), 0);
    assert_int_equal(job.status, REWRITE_OK);
    for (uint32_t i = 0; i < job.address_count; i++) {
        struct slice owner = rewrite_owner(&job, i);
        used +=
            (size_t)snprintf(text + used, sizeof(text) - used, "%s%.*s%s%.*s", i > 0 ? " " : "",
                             (int)job.addresses[i].size, (const char *)job.addresses[i].bytes,
                             owner.size > 0 ? "<" : "", (int)owner.size, (const char *)owner.bytes);
    }
    rewrite_job_end(&job);
    return text;
}

static void an_alias_with_an_owner_is_a_mailing_list(void **state)
{
    static const char *const cases[][2] = {
        {"team@local.test", "a@x.test<owner-team@local.test b@x.test<owner-team@local.test"},
        {"Team+tag@mx.test", "a@x.test<owner-Team@mx.test b@x.test<owner-Team@mx.test"},
        {"team", "a@x.test<owner-team@mx.test b@x.test<owner-team@mx.test"},
        {"info@local.test", "c@x.test d@x.test"}, /* no owner */
        {"both@local.test", "c@x.test d@x.test a@x.test<owner-team@mx.test "
                            "b@x.test<owner-team@mx.test"},
        /* the inner list has an owner of its own, and where it has none the outer one's counts */
        {"all@local.test", "e@x.test<owner-all@local.test c@x.test<owner-all@local.test "
                           "d@x.test<owner-all@local.test a@x.test<owner-team@mx.test "
                           "b@x.test<owner-team@mx.test"},
        {"self@local.test", "self@mx.test<owner-self@local.test"},
        {"far@far.test", "a@x.test<owner-team@mx.test b@x.test<owner-team@mx.test"},
        {"owner-team@local.test", "boss@x.test"},
        {"team@elsewhere.test", "team@elsewhere.test"},
    };
    (void)state;
    use(&rules.aliases, "inline:{{team=a@x.test, b@x.test}, {info=c@x.test, d@x.test}, "
                        "{both=info, team}, {all=e@x.test, info, team}, self=\\self}");
    use(&rules.aliases, "inline:{owner-team=boss@x.test, owner-all=boss@x.test, owner-self=self, "
                        "owner-owner-team=never@x.test}");
    use(&rules.virtual_aliases, "inline:{far@far.test=team@mx.test}");
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        assert_string_equal(owners(cases[i][0]), cases[i][1]);
    }
}

static void a_dash_before_tags_parts_no_owner_and_no_request(void **state)
{
    (void)state;
    rules.extension = '-';
    use(&rules.aliases, "inline:{team=a@x.test, owner-team=boss@x.test}");
    use(&rules.virtual_aliases, "inline:{owner@local.test=never@x.test, team@far.test=team@mx.test,"
                                "wish@far.test=w@x.test}");
    assert_string_equal(recipient("owner-team@local.test"), "boss@x.test");
    assert_string_equal(owners("team-tag@local.test"), "a@x.test<owner-team@local.test");
    assert_string_equal(recipient("wish-tag@far.test"), "w-tag@x.test");
    assert_string_equal(recipient("wish-request@far.test"), "wish-request@far.test");
    assert_string_equal(recipient("-request@far.test"), "-request@far.test");
}

static void what_leads_back_ends(void **state)
{
    (void)state;
    use(&rules.virtual_aliases, "inline:{a@l.test=b@l.test, b@l.test=c@l.test, c@l.test=a@l.test,"
                                "{d@l.test=d@l.test, e@l.test}, {e@l.test=d@l.test, f@l.test}, "
                                "{g@l.test=a@l.test, h@l.test}}");
    assert_string_equal(recipient("a@l.test"), "!loop");
    assert_string_equal(recipient("d@l.test"), "d@l.test f@l.test");
    assert_string_equal(recipient("g@l.test"), "h@l.test"); /* something is left */
}

/* Files below a folder of their own; a name with %s takes it. */
static char lists[] = "/tmp/rewrite-lists-XXXXXX";

static void list_write(const char *name, const char *text)
{
    char path[256], whole[1024];
    snprintf(path, sizeof(path), "%s/%s", lists, name);
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    snprintf(whole, sizeof(whole), text, lists, lists);
    fputs(whole, file);
    fclose(file);
}

static void lists_drop(const char *const *names, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        char path[256];
        snprintf(path, sizeof(path), "%s/%s", lists, names[i]);
        unlink(path);
    }
    rmdir(lists);
}

static void lists_that_include_each_other_end(void **state)
{
    static const char *const names[] = {"one", "two", "itself", "circle", "back", "fifo", "alias"};
    char maps[1024], path[256];
    (void)state;
    assert_non_null(mkdtemp(lists));
    list_write("one", "a@x.test\n:include:%s/two\n");
    list_write("two", "b@x.test, :include:%s/one, c@x.test\n");
    list_write("itself", ":include:%s/itself\n");
    list_write("circle", ":include:%s/back\n:include:%s/back\n");
    list_write("back", ":include:%s/circle\n");
    snprintf(path, sizeof(path), "%s/fifo", lists);
    assert_int_equal(mkfifo(path, 0600), 0);
    snprintf(maps, sizeof(maps),
             "inline:{one=:include:%s/one, itself=:include:%s/itself, circle=:include:%s/circle, "
             "fifo=:include:%s/fifo, alias=:include:%s/alias}",
             lists, lists, lists, lists, lists);
    list_write("alias", "alias, d@x.test, one\n"); /* the alias that has included it */
    use(&rules.aliases, maps);
    struct rewrite_maps includes = {0};
    use(&includes, "include:");
    rules.includes = includes.maps[0];
    assert_string_equal(recipient("one@mx.test"), "a@x.test b@x.test c@x.test");
    assert_string_equal(recipient("itself@mx.test"), "!loop");
    assert_string_equal(recipient("circle@mx.test"), "!loop");
    assert_string_equal(recipient("alias@mx.test"), "d@x.test a@x.test b@x.test c@x.test");
    assert_string_equal(recipient("fifo@mx.test"), "!failed"); /* and does not hang */
    lists_drop(names, sizeof(names) / sizeof(names[0]));
    free(includes.maps);
}

static void a_list_of_a_million_stands_for_too_many(void **state)
{
    char path[] = "/tmp/rewrite-XXXXXX", name[64];
    static const unsigned counts[] = {REWRITE_ADDRESSES_MAX - 3, REWRITE_ADDRESSES_MAX, 1000000};
    (void)state;
    int fd = mkstemp(path);
    FILE *file = fdopen(fd, "w");
    snprintf(name, sizeof(name), "inline:{list=:include:%s}", path);
    use(&rules.aliases, name);
    struct rewrite_maps includes = {0};
    use(&includes, "include:");
    rules.includes = includes.maps[0];
    for (size_t i = 0, written = 0; i < sizeof(counts) / sizeof(counts[0]); i++) {
        for (; written < counts[i]; written++) {
            fprintf(file, "u%zu@x.test\n", written);
        }
        fflush(file);
        lookup_forget(lookup);
        struct rewrite_job job = {0};
        assert_int_equal(rewrite_recipient(&job, lookup, &rules, slice_text("list@mx.test")), 0);
        assert_int_equal(job.status, i == 0 ? REWRITE_OK : REWRITE_TOO_MANY);
        assert_int_equal(job.address_count, i == 0 ? counts[0] : job.address_count);
        rewrite_job_end(&job);
    }
    fclose(file);
    unlink(path);
    free(includes.maps);
}

/* The inputs of the cases: one that becomes a million. */
static void expansion_is_bounded(void **state)
{
    char path[] = "/tmp/rewrite-XXXXXX", name[64];
    (void)state;
    int fd = mkstemp(path);
    FILE *file = fdopen(fd, "w");
    fprintf(file, "/^x([0-9]*)@many\\.test$/ x1$1@many.test, x2$1@many.test, x3$1@many.test\n");
    fclose(file);
    snprintf(name, sizeof(name), "pcre:%s", path);
    use(&rules.virtual_aliases, name);
    assert_string_equal(recipient("x@many.test"), "!too many");
    unlink(path);
}

static void what_a_map_gives_must_be_an_address(void **state)
{
    (void)state;
    use(&rules.virtual_aliases, "inline:{a@x.test=two@signs@x.test, b@x.test=\x01@x.test, "
                                "c@x.test=smtp:[x], d@x.test=@, e@x.test=,}");
    assert_string_equal(recipient("a@x.test"), "!wrong");
    assert_string_equal(recipient("b@x.test"), "!wrong");
    assert_string_equal(recipient("d@x.test"), "!wrong");
    assert_string_equal(recipient("e@x.test"), "!loop");
}

static void a_map_that_does_not_answer_is_not_taken_for_absent(void **state)
{
    char path[] = "/tmp/rewrite-XXXXXX", name[64];
    static const char text[] = "dbpath = /nowhere\nquery = select '%s'\n";
    (void)state;
    int fd = mkstemp(path);
    assert_true(fd >= 0 && write(fd, text, sizeof(text) - 1) > 0);
    snprintf(name, sizeof(name), "sqlite:%s", path);
    use(&rules.virtual_aliases, name);
    assert_string_equal(recipient("a@x.test"), "!failed");
    close(fd);
    unlink(path);
}

static void who_is_known_is_told_by_the_same_forms(void **state)
{
    struct rewrite_maps users = {0};
    static const char *const addresses[][2] = {{"jo@x.test", "jo@x.test"},
                                               {"jo+t@x.test", "jo+t@x.test"},
                                               {"no@x.test", ""},
                                               {"any@all.test", "any@all.test"}};
    (void)state;
    use(&users, "inline:{jo@x.test=x, @all.test=x}");
    for (size_t i = 0; i < sizeof(addresses) / sizeof(*addresses); i++) {
        struct rewrite_job job = {0};
        assert_int_equal(rewrite_known(&job, lookup, &rules, &users, slice_text(addresses[i][0])),
                         0);
        assert_string_equal(text_of(&job), addresses[i][1]);
    }
    free(users.maps);
}

/* RFC 5890 §2.3.2.1: whoever keeps the map may write either. */
static void a_domain_is_found_in_u_labels_and_in_a_labels(void **state)
{
    static const char *const local[] = {"bücher.test", "xn--mnchen-3ya.test"};
    (void)state;
    rules.local_domains = local;
    rules.local_domains_count = 2;
    use(&rules.virtual_aliases, "inline:{a@grün.test=a@in.test, b@xn--grn-ioa.test=b@in.test, "
                                "@xn--strae-oqa.test=all@in.test}");
    use(&rules.aliases, "inline:{root=admin@in.test}");
    assert_string_equal(recipient("a@xn--grn-ioa.test"), "a@in.test");
    assert_string_equal(recipient("b@grün.test"), "b@in.test");
    assert_string_equal(recipient("b@GRÜN.test"), "b@in.test");
    assert_string_equal(recipient("b+tag@grün.test"), "b+tag@in.test");
    assert_string_equal(recipient("x@straße.test"), "all@in.test");
    assert_string_equal(recipient("c@grün.test"), "c@grün.test");
    assert_string_equal(recipient("root@xn--bcher-kva.test"), "admin@in.test");
    assert_string_equal(recipient("root@münchen.test"), "admin@in.test");
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(a_domain_is_found_in_u_labels_and_in_a_labels),
        TEST(without_maps_an_address_stands_for_itself),
        TEST(virtual_aliases_are_found_by_every_form_of_an_address),
        TEST(patterns_see_whole_addresses_only),
        TEST(canonical_names_are_looked_up_once_and_come_first),
        TEST(aliases_are_of_local_domains_and_run_nothing),
        TEST(an_alias_with_an_owner_is_a_mailing_list),
        TEST(a_dash_before_tags_parts_no_owner_and_no_request),
        TEST(what_leads_back_ends),
        TEST(lists_that_include_each_other_end),
        TEST(a_list_of_a_million_stands_for_too_many),
        TEST(expansion_is_bounded),
        TEST(what_a_map_gives_must_be_an_address),
        TEST(a_map_that_does_not_answer_is_not_taken_for_absent),
        TEST(who_is_known_is_told_by_the_same_forms),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
