package devstack_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/lanternist/lanternist/internal/devstack"
)

func TestPostgresIsFreshLogicalAndDropped(t *testing.T) {
	var name string
	t.Run("use", func(t *testing.T) {
		db := devstack.Postgres(t)
		name = db.Name()
		db.Exec("CREATE TABLE a (id int PRIMARY KEY)", "INSERT INTO a VALUES (1), (2); INSERT INTO a VALUES (3)")
		conn := db.Conn(t.Context())
		var rows int
		var level, database string
		err := conn.QueryRow(t.Context(), "SELECT count(*), current_setting('wal_level'), current_database() FROM a").
			Scan(&rows, &level, &database)
		if err != nil || rows != 3 || level != "logical" || database != name {
			t.Fatalf("rows %d, wal_level %s, database %s, error %v", rows, level, database, err)
		}
		if _, err := conn.Exec(t.Context(), "SELECT pg_create_logical_replication_slot($1, 'pgoutput')", name); err != nil {
			t.Fatal(err)
		}
	})
	conn := devstack.Postgres(t).Conn(t.Context())
	var left int
	err := conn.QueryRow(t.Context(), `SELECT (SELECT count(*) FROM pg_database WHERE datname = $1)
		+ (SELECT count(*) FROM pg_replication_slots WHERE slot_name = $1)`, name).Scan(&left)
	if err != nil || left != 0 {
		t.Fatalf("database or slot %s is left: %d, error %v", name, left, err)
	}
}

func TestPostgresVersions(t *testing.T) {
	t.Parallel()
	for _, version := range []string{"14", "17"} {
		t.Run(version, func(t *testing.T) {
			t.Parallel()
			conn := devstack.Postgres(t, devstack.Version(version)).Conn(t.Context())
			var number string
			if err := conn.QueryRow(t.Context(), "SHOW server_version_num").Scan(&number); err != nil {
				t.Fatal(err)
			}
			if !strings.HasPrefix(number, version) {
				t.Errorf("server_version_num is %s", number)
			}
		})
	}
}

func TestPostgresServerHasItsOwnSettingsAndSurvivesAKill(t *testing.T) {
	t.Parallel()
	server := devstack.PostgresServer(t, devstack.PostgresOptions{Settings: map[string]string{"wal_level": "replica"}})
	db := server.Database()
	db.Exec("CREATE TABLE a (id int)", "INSERT INTO a VALUES (1)")
	before := server.URL()
	for _, fault := range []func() error{
		func() error { return server.Stop(t.Context()) },
		server.Kill,
	} {
		if err := fault(); err != nil {
			t.Fatal(err)
		}
		if err := server.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
		var level string
		var rows int
		err := db.Conn(t.Context()).QueryRow(t.Context(), "SELECT current_setting('wal_level'), count(*) FROM a").Scan(&level, &rows)
		if err != nil || level != "replica" || rows != 1 || server.URL() != before {
			t.Fatalf("wal_level %s, rows %d, URL %s then %s, error %v", level, rows, before, server.URL(), err)
		}
	}
}

func TestRedisKeysAreDeleted(t *testing.T) {
	var prefix, url string
	t.Run("use", func(t *testing.T) {
		r := devstack.Redis(t)
		prefix, url = r.Prefix(), r.URL()
		client := redisClient(t, url)
		for i := range 3000 {
			if err := client.Set(t.Context(), fmt.Sprint(prefix, i), i, 0).Err(); err != nil {
				t.Fatal(err)
			}
		}
	})
	keys, err := redisClient(t, devstack.Redis(t).URL()).Keys(t.Context(), prefix+"*").Result()
	if err != nil || len(keys) != 0 {
		t.Fatalf("%d keys are left, error %v", len(keys), err)
	}
}

func TestElasticsearchIndicesAreDeleted(t *testing.T) {
	t.Parallel()
	var index, base string
	t.Run("use", func(t *testing.T) {
		es := devstack.Elasticsearch(t)
		base, index = es.URL(), es.Prefix()+"orders"
		call(t, http.MethodPut, base+"/"+index+"/_doc/1?refresh=true", `{"total": 3}`)
		var found struct {
			Hits struct{ Total struct{ Value int } }
		}
		if err := json.Unmarshal(call(t, http.MethodGet, base+"/"+index+"/_search", ""), &found); err != nil {
			t.Fatal(err)
		}
		if found.Hits.Total.Value != 1 {
			t.Fatalf("found %d documents", found.Hits.Total.Value)
		}
	})
	if got := devstack.Elasticsearch(t).URL(); got != base {
		t.Errorf("the cluster is not shared: %s and %s", base, got)
	}
	if left := call(t, http.MethodGet, base+"/_cat/indices/"+index+"*?h=index", ""); len(left) != 0 {
		t.Errorf("left: %s", left)
	}
}

func TestElasticsearchKeepsPortAndDataOverAKill(t *testing.T) {
	t.Parallel()
	stack := devstack.PrivateStack(t, devstack.Options{Elasticsearch: &devstack.ElasticsearchOptions{
		Heap: "256m", JavaOptions: []string{"-XX:TieredStopAtLevel=1"}, // starts sooner
	}})
	url := stack.Elasticsearch()
	call(t, http.MethodPut, url+"/a/_doc/1?refresh=true", `{"total": 3}`)
	stopped := func() {
		t.Helper()
		if resp, err := http.Get(url + "/a/_doc/1"); err == nil {
			resp.Body.Close()
			t.Fatal("a stopped node answers")
		}
	}
	if err := stack.KillElasticsearch(); err != nil {
		t.Fatal(err)
	}
	stopped()
	if err := stack.StartElasticsearch(t.Context()); err != nil {
		t.Fatal(err)
	}
	if stack.Elasticsearch() != url {
		t.Fatalf("URL was %s and is %s", url, stack.Elasticsearch())
	}
	call(t, http.MethodGet, url+"/a/_doc/1", "")
	if err := stack.StopElasticsearch(t.Context()); err != nil {
		t.Fatal(err)
	}
	stopped()
}

func TestRedisComesBackEmptyOnTheSamePort(t *testing.T) {
	t.Parallel()
	stack := devstack.PrivateStack(t, devstack.Options{Redis: &devstack.RedisOptions{}})
	client := redisClient(t, stack.Redis())
	for _, fault := range []func() error{
		func() error { return stack.StopRedis(t.Context()) },
		stack.KillRedis,
	} {
		if err := client.Set(t.Context(), "a", 1, 0).Err(); err != nil {
			t.Fatal(err)
		}
		if err := fault(); err != nil {
			t.Fatal(err)
		}
		if err := client.Ping(t.Context()).Err(); err == nil {
			t.Fatal("a stopped server answers")
		}
		if err := stack.StartRedis(t.Context()); err != nil {
			t.Fatal(err)
		}
		if n, err := client.Exists(t.Context(), "a").Result(); err != nil || n != 0 {
			t.Fatalf("%d keys, error %v", n, err)
		}
	}
}

func redisClient(t *testing.T, url string) *redis.Client {
	t.Helper()
	opts, err := redis.ParseURL(url)
	if err != nil {
		t.Fatal(err)
	}
	client := redis.NewClient(opts)
	t.Cleanup(func() { client.Close() })
	return client
}

// call sends one request and returns the body of a 2xx answer.
func call(t *testing.T, method, url, body string) []byte {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, url, bytes.NewBufferString(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	req.Close = true
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode >= 300 {
		t.Fatalf("%s %s: %s: %s, error %v", method, url, resp.Status, text, err)
	}
	return text
}

func TestRedisKeepsAndLosesItsData(t *testing.T) {
	t.Parallel()
	if _, err := exec.LookPath("redis-server"); err != nil {
		t.Skip("the stand-in keeps nothing on disk")
	}
	stack := devstack.PrivateStack(t, devstack.Options{Redis: &devstack.RedisOptions{Persist: true}})
	client := redisClient(t, stack.Redis())
	if err := client.Set(t.Context(), "k", "v", 0).Err(); err != nil {
		t.Fatal(err)
	}
	for _, want := range []int64{1, 0} {
		if err := stack.KillRedis(); err != nil {
			t.Fatal(err)
		}
		if want == 0 {
			if err := stack.EraseRedis(); err != nil {
				t.Fatal(err)
			}
		}
		if err := stack.StartRedis(t.Context()); err != nil {
			t.Fatal(err)
		}
		if n, err := client.DBSize(t.Context()).Result(); err != nil || n != want {
			t.Errorf("after a kill it has %d keys, %v; want %d", n, err, want)
		}
	}
}

func TestPausedServerDoesNotAnswer(t *testing.T) {
	t.Parallel()
	if _, err := exec.LookPath("redis-server"); err != nil {
		t.Skip("the stand-in is no process of its own")
	}
	stack := devstack.PrivateStack(t, devstack.Options{Redis: &devstack.RedisOptions{}})
	client := redisClient(t, stack.Redis())
	if err := client.Ping(t.Context()).Err(); err != nil {
		t.Fatal(err)
	}
	if err := stack.PauseRedis(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if err := client.Ping(ctx).Err(); err == nil {
		t.Error("a paused server has answered")
	}
	if err := stack.ResumeRedis(); err != nil {
		t.Fatal(err)
	}
	if err := client.Ping(t.Context()).Err(); err != nil {
		t.Error(err)
	}
}
