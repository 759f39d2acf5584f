// Package whole measures Herald, installed by its chart, before BGP routers: what 10,000 Services at four FRR peers cost the speaker, from the
// API to the routers; and what clients behind a router notice of an upgrade of all speakers, and of nodes that are drained. Figures are
// printed; of them only what must hold on any machine is asserted: that all routes arrive, and that an upgrade deletes none.
//
// HERALD_BENCH_SERVICES is the number of Services (10000), HERALD_BENCH_RUNS how often planned changes are made (5).
package whole
