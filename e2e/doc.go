// Package e2e holds the tests of the whole: the built binary against real Postgres, Elasticsearch and Redis.
//
// A test has an installation of its own: a database, prefixes in both sinks, a data folder, a port, a configuration
// file as a user writes it. It starts and ends the daemon as a machine does (SIGTERM, SIGKILL), changes the database,
// and reads the sinks over their own protocols, without any code of the daemon. What documents must be is said by
// plain SQL on the source.
//
// The tests need real services and are skipped under -short. These variables make them larger:
//
//	LANTERNIST_E2E_ROUNDS   write-then-read rounds; default 600
//	LANTERNIST_E2E_OUTAGE   how long Elasticsearch is away; default 15s
//	LANTERNIST_VALUES       rows of random values of every type; default 60
//	LANTERNIST_FAULTS       all: heavy faults are caused, too
//	LANTERNIST_FAULTS_FOR   for how long faults come at random; without it none do
//	LANTERNIST_E2E_LARGE_ROWS   rows of a large transaction; default 2000000
//	LANTERNIST_E2E_LOGS     folder for the logs of daemons that faults have ended
//	LANTERNIST_E2E_SEED     repeat a run with the seed that it printed
package e2e
