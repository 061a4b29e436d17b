package devstack

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// ElasticsearchOptions says which Elasticsearch a stack has.
type ElasticsearchOptions struct {
	// URL of a cluster to use instead of starting one. Default: LANTERNIST_ELASTICSEARCH_URL.
	URL string
	// Heap of the server in the JVM's notation. Default: 512m.
	Heap string
	// JavaOptions are more options for the server's JVM. Default: none.
	JavaOptions []string
	// Settings are more settings of the node, "http.max_content_length=1mb". Default: none.
	Settings []string
}

func newElasticsearch(ctx context.Context, h *host, opts ElasticsearchOptions) (server, error) {
	if url := givenURL(opts.URL, "LANTERNIST_ELASTICSEARCH_URL"); url != "" {
		return given(strings.TrimRight(url, "/")), nil
	}
	dist, err := findDistribution(ctx, h)
	if err != nil {
		return nil, fmt.Errorf("elasticsearch: %w", err)
	}
	dir, err := h.subdir("elasticsearch")
	if err != nil {
		return nil, err
	}
	n := node{distribution: dist, dir: dir, name: "lanternist-" + strings.ToLower(rand.Text()), opts: opts}
	if n.opts.Heap == "" {
		n.opts.Heap = "512m"
	}
	if err := n.layOut(h.account); err != nil {
		return nil, fmt.Errorf("elasticsearch: %w", err)
	}
	return startDaemon(ctx, h, daemonSpec{
		name:        "elasticsearch",
		ports:       2,
		command:     n.command,
		ready:       n.ready,
		url:         func(ports []int) string { return "http://" + loopback(ports[0]) },
		stopSignal:  syscall.SIGTERM,
		endSignal:   syscall.SIGTERM, // the JVM removes its attach socket from /tmp
		deathSignal: syscall.SIGKILL, // of the launcher; see command
		readyWithin: 3 * time.Minute,
		stopWithin:  time.Minute,
	})
}

// node is one Elasticsearch with its own configuration and data.
type node struct {
	distribution
	dir  string
	name string // of the cluster; tells our node from a stranger on the same port
	opts ElasticsearchOptions
}

// layOut copies the configuration, which the server writes to, and makes the folders.
func (n node) layOut(acc *account) error {
	if err := os.CopyFS(n.path("config"), os.DirFS(filepath.Join(n.home, "config"))); err != nil {
		return fmt.Errorf("copy configuration: %w", err)
	}
	for _, name := range []string{"data", "logs", "tmp"} {
		if err := os.Mkdir(n.path(name), 0o700); err != nil {
			return fmt.Errorf("make folder: %w", err)
		}
	}
	return filepath.WalkDir(n.dir, func(path string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		return acc.own(path)
	})
}

func (n node) path(name string) string { return filepath.Join(n.dir, name) }

// command runs the launcher script. The server itself is a child of the launcher in the same process group
// and ends when its standard input, which the launcher holds, is closed.
func (n node) command(ports []int) *exec.Cmd {
	settings := []string{
		"discovery.type=single-node",
		"xpack.security.enabled=false",
		"cluster.name=" + n.name,
		"cluster.routing.allocation.disk.threshold_enabled=false",
		"network.host=127.0.0.1",
		"http.port=" + strconv.Itoa(ports[0]),
		"transport.port=" + strconv.Itoa(ports[1]),
		"path.data=" + n.path("data"),
		"path.logs=" + n.path("logs"),
	}
	if n.has("ingest-geoip") {
		settings = append(settings, "ingest.geoip.downloader.enabled=false")
	}
	if n.has("x-pack-ml") {
		settings = append(settings, "xpack.ml.enabled=false")
	}
	var args []string
	for _, setting := range append(settings, n.opts.Settings...) {
		args = append(args, "-E"+setting)
	}
	cmd := exec.Command(filepath.Join(n.home, "bin", "elasticsearch"), args...)
	cmd.Dir = n.dir
	cmd.Env = append(serviceEnv(n.dir),
		"ES_PATH_CONF="+n.path("config"),
		"ES_TMPDIR="+n.path("tmp"),
		"ES_JAVA_OPTS="+n.javaOptions(),
		"CLI_JAVA_OPTS=-XX:-UsePerfData -Djava.io.tmpdir="+n.path("tmp")+" "+quickCompiler,
	)
	if n.java != "" {
		cmd.Env = append(cmd.Env, "ES_JAVA_HOME="+n.java)
	}
	return cmd
}

// quickCompiler halves the CPU time of a start, at the price of slower code later.
const quickCompiler = "-XX:TieredStopAtLevel=1"

// javaOptions leaves out the performance data file, which would stay in /tmp after SIGKILL.
func (n node) javaOptions() string {
	options := []string{"-Xms" + n.opts.Heap, "-Xmx" + n.opts.Heap, "-XX:-UsePerfData"}
	return strings.Join(append(options, n.opts.JavaOptions...), " ")
}

// ready asks for the cluster's health, which this distribution answers too (it has no GET /).
func (n node) ready(ctx context.Context, ports []int, _ int) error {
	url := "http://" + loopback(ports[0]) + "/_cluster/health?wait_for_status=yellow&timeout=1s"
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	resp, err := plainHTTP.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	var health struct {
		ClusterName string `json:"cluster_name"`
	}
	if err := json.NewDecoder(resp.Body).Decode(&health); err != nil {
		return fmt.Errorf("cluster health: %w", err)
	}
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("cluster health: %s", resp.Status)
	}
	if health.ClusterName != n.name {
		return errors.New("another cluster answers on the port")
	}
	return nil
}

// plainHTTP keeps no connections, and so no goroutines, and uses no proxy.
var plainHTTP = &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
