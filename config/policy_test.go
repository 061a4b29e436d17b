package config

import (
	"strings"
	"testing"
	"time"
)

func TestPolicyOfOneProjector(t *testing.T) {
	c, err := Parse("lanternist.yaml", []byte(minimal+`projectors:
  max_attempts: 4
  backoff_max: 20s
  overrides:
    orders.search: {max_attempts: 9, backoff_first: 1s, on_permanent: stop}
    orders.cache: {on_fatal: retry, rebuild_rate: 50}
`), lookup(map[string]string{"DATABASE_URL": "postgres://h/db"}))
	if err != nil {
		t.Fatal(err)
	}
	want := Policy{MaxAttempts: 9, BackoffFirst: Duration(time.Second), BackoffMax: Duration(20 * time.Second), OnPermanent: Stop, OnFatal: Stop}
	if got := c.Projectors.Policy("orders.search"); got != want {
		t.Errorf("%+v, want %+v", got, want)
	}
	want = Policy{MaxAttempts: 4, BackoffFirst: Duration(50 * time.Millisecond), BackoffMax: Duration(20 * time.Second), OnPermanent: Park, OnFatal: Retry, RebuildRate: 50}
	if got := c.Projectors.Policy("orders.cache"); got != want {
		t.Errorf("%+v, want %+v", got, want)
	}
	unknown := c.UnknownProjectors([]string{"orders.cache", "order.search"})
	if len(unknown) != 1 || unknown.Error() != `lanternist.yaml:9: projectors.overrides.orders.search: there is no projector "orders.search"; did you mean "order.search"?` {
		t.Errorf("unknown: %v", unknown)
	}
	if c.UnknownProjectors([]string{"orders.cache", "orders.search"}) != nil {
		t.Error("known projectors are refused")
	}
	text, err := c.Masked()
	if err != nil || !strings.Contains(string(text), "orders.search:\n      max_attempts: 9\n      backoff_first: 1s\n") {
		t.Errorf("%v\n%s", err, text)
	}
}

func TestEveryProblemOfPoliciesAtOnce(t *testing.T) {
	_, err := Parse("lanternist.yaml", []byte(minimal+`projectors:
  on_permanent: drop
  backoff_first: 1m
  memory: 1MiB
  overrides:
    orders.search: {max_attempt: 9, on_fatal: never}
    orders.cache: {max_attempts: -1, backoff_max: 10ms}
    orders.search: {max_attempts: 2}
    audit.search: {}
`), lookup(map[string]string{"DATABASE_URL": "postgres://h/db"}))
	if err == nil {
		t.Fatal("accepted")
	}
	for _, want := range []string{
		`lanternist.yaml:6: projectors.on_permanent is "drop"; it must be one of park, stop`,
		`lanternist.yaml:7: projectors.backoff_first is 1m0s, longer than backoff_max, 30s`,
		`lanternist.yaml:8: projectors.memory is 1MiB; it must be at least 8MiB`,
		`lanternist.yaml:10: unknown setting "projectors.overrides.orders.search.max_attempt"; did you mean "max_attempts"?`,
		`lanternist.yaml:10: projectors.overrides.orders.search.on_fatal is "never"; it must be one of stop, retry`,
		`lanternist.yaml:11: projectors.overrides.orders.cache.max_attempts is -1; it must be at least 1`,
		`lanternist.yaml:11: projectors.overrides.orders.cache.backoff_first is 1m0s, longer than backoff_max, 10ms`,
		`lanternist.yaml:12: projectors.overrides.orders.search is set twice, first in line 10`,
		`lanternist.yaml:13: projectors.overrides.audit.search overrides nothing`,
	} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("no problem says %q in:\n%v", want, err)
		}
	}
}
