package devstack

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"strings"
	"testing"
	"time"
)

// verdict runs f as a test and returns how it ended.
func verdict(f func(testing.TB)) *recorder {
	r := &recorder{}
	done := make(chan struct{})
	go func() {
		defer close(done)
		f(r)
	}()
	<-done
	return r
}

// recorder notes a skip or a failure and ends the goroutine, as a test does.
type recorder struct {
	testing.TB
	skipped, failed string
}

func (r *recorder) Helper() {}

func (r *recorder) Skipf(format string, args ...any) {
	r.skipped = fmt.Sprintf(format, args...)
	runtime.Goexit()
}

func (r *recorder) Fatalf(format string, args ...any) {
	r.failed = fmt.Sprintf(format, args...)
	runtime.Goexit()
}

func TestServiceThatCannotBeHad(t *testing.T) {
	missing := fmt.Errorf("elasticsearch: %w: %w", ErrUnavailable, errors.New("no mvn\nno network"))
	crashed := errors.New("start elasticsearch: process ended before it answered")
	for _, c := range []struct {
		err                   error
		required              string
		skips, fails, silence bool
	}{
		{err: nil, silence: true},
		{err: nil, required: "1", silence: true},
		{err: missing, skips: true},
		{err: unavailable(missing.Error()), skips: true},
		{err: missing, required: "1", fails: true},
		{err: crashed, fails: true},
		{err: crashed, required: "1", fails: true},
	} {
		t.Setenv("LANTERNIST_REQUIRE_SERVICES", c.required)
		r := verdict(func(t testing.TB) { had(t, "elasticsearch", c.err) })
		if (r.skipped != "") != c.skips || (r.failed != "") != c.fails || strings.Contains(r.skipped, "\n") {
			t.Errorf("%v, required %q: skipped %q, failed %q", c.err, c.required, r.skipped, r.failed)
		}
	}
}

func TestEventually(t *testing.T) {
	calls := 0
	Eventually(t, time.Hour, func() error {
		if calls++; calls < 3 {
			return errors.New("not yet")
		}
		return nil
	})
	if calls != 3 {
		t.Errorf("%d calls", calls)
	}
	r := verdict(func(t testing.TB) {
		Eventually(t, time.Nanosecond, func() error { return errors.New("the last error") })
	})
	if !strings.Contains(r.failed, "the last error") {
		t.Errorf("failed with %q", r.failed)
	}
}

func TestWithoutRedisServerThereIsMiniredis(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	t.Setenv("LANTERNIST_REDIS_URL", "")
	var progress strings.Builder
	s, err := Start(t.Context(), Options{Redis: &RedisOptions{}, Dir: openFolder(t), Progress: &progress})
	if err != nil {
		t.Fatal(err)
	}
	if lines := strings.Count(progress.String(), "\n"); lines != 1 || !strings.Contains(progress.String(), "miniredis") {
		t.Errorf("progress: %s", progress.String())
	}
	k := &KeySpace{address: s.Redis(), prefix: "a:"}
	if err := k.deleteKeys(t.Context()); err != nil {
		t.Errorf("use: %v", err)
	}
	url := s.Redis()
	if err := s.StopRedis(t.Context()); err != nil {
		t.Error(err)
	}
	if err := k.deleteKeys(t.Context()); err == nil {
		t.Error("a stopped server answers")
	}
	if err := s.StartRedis(t.Context()); err != nil || s.Redis() != url {
		t.Errorf("URL was %s and is %s, error %v", url, s.Redis(), err)
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	mustVanish(t, s.Dir())
}

func TestGivenServersAreUsedAndLeftAlone(t *testing.T) {
	t.Setenv("LANTERNIST_POSTGRES_URL", "postgres://env/db")
	t.Setenv("LANTERNIST_ELASTICSEARCH_URL", "http://env:9200/")
	s, err := Start(t.Context(), Options{
		Postgres:      &PostgresOptions{},
		Elasticsearch: &ElasticsearchOptions{},
		Redis:         &RedisOptions{URL: "redis://option"},
		Dir:           openFolder(t),
	})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if s.Postgres() != "postgres://env/db" || s.Elasticsearch() != "http://env:9200" || s.Redis() != "redis://option" {
		t.Errorf("got %s, %s, %s", s.Postgres(), s.Elasticsearch(), s.Redis())
	}
	for _, err := range []error{s.StopElasticsearch(t.Context()), s.KillPostgres(), s.StartRedis(t.Context())} {
		if !errors.Is(err, errGiven) {
			t.Errorf("error is %v", err)
		}
	}
}

func TestDatabaseOfAnyKindOfURL(t *testing.T) {
	for server, want := range map[string]string{
		"postgres://u:p@h:1/postgres?sslmode=disable": "postgres://u:p@h:1/d?sslmode=disable",
		"postgresql://h":         "postgresql://h/d",
		"host=h dbname=postgres": "host=h dbname=postgres dbname=d",
	} {
		if got := onDatabase(server, "d"); got != want {
			t.Errorf("%s: %s", server, got)
		}
	}
}

func TestOwnerIsTheGoCommandThatRunsTheTests(t *testing.T) {
	parent, ok := lookUp(os.Getppid())
	if !ok {
		t.Fatal("the parent process is not found")
	}
	owner, err := runOwner()
	if err != nil {
		t.Fatal(err)
	}
	if want := map[bool]int{true: parent.PID, false: os.Getpid()}[parent.name == "go"]; owner.PID != want || !owner.runs() {
		t.Errorf("owner %v, parent %v", owner, parent)
	}
	if owner.Started = "0"; owner.runs() {
		t.Error("another process with the same id is taken for the owner")
	}
}
