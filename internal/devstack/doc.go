// Package devstack runs real Postgres, Elasticsearch and Redis servers on this machine, for the demo
// and for the integration tests.
//
// There are two ways in. [Start] gives the caller a stack of its own. The test functions ([Postgres],
// [Elasticsearch], [Redis]) share one stack among all packages of a `go test ./...`: a small supervisor
// process starts each kind of server when the first test asks for it, every test gets its own database,
// index prefix or key prefix, and [PrivateStack] and [PostgresServer] are for tests that stop a server
// or need their own settings.
//
// Invariants:
//   - No server outlives its owner, however the owner ends. A private stack's servers are children of the
//     caller and die with it; the shared stack's supervisor ends when the `go test` that it serves is gone,
//     and its servers die with the supervisor. (Linux: parent-death signals; elsewhere: a watcher that polls.)
//   - Servers listen on 127.0.0.1 only, on ports outside the ephemeral range, and keep port and data when
//     they are stopped and started again.
//   - A folder of a stack is removed when the stack ends; what a killed owner left is removed by the next start.
//   - A cached download is used only when its checksum is the one recorded, pinned or published for it.
//
// A server can also be given: LANTERNIST_POSTGRES_URL, LANTERNIST_ELASTICSEARCH_URL and LANTERNIST_REDIS_URL
// name servers that the stack uses and never stops. LANTERNIST_REQUIRE_SERVICES=1 makes a service that
// cannot be had a test failure; otherwise the tests that need it are skipped.
//
// Being root is handled here: Postgres and Elasticsearch refuse to run as root, so as root every server
// runs as the user nobody. What the servers are used for is left to the callers.
package devstack
