# Everything the project does often. `make` lists the targets.
#
# Each target covers every module of go.work: `work` is the go command's name
# for all their packages, so a module added there is covered from then on.

FUZZTIME = 30s
SEEDS    = 20000

# Extra arguments of test, test-short, bench, run and vuln, for example
#   make test ARGS='-run TestTrigger -v'
ARGS =

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "  make %-14s %s\n", $$1, $$2 }' Makefile

test: ## install what is missing, then run the whole suite with the race detector
	@sh scripts/test.sh $(ARGS)

test-short: ## run the quick part of the suite: -short, no race detector, cached results
	@go test -short $(ARGS) work

lint: ## check formatting, go vet, staticcheck, module files, scripts and stray text
	@sh scripts/lint.sh

fmt: ## format the Go files
	@gofmt -l -w .

fuzz: ## fuzz every target for FUZZTIME (30s) each, stopping at the first finding
	@FUZZTIME=$(FUZZTIME) sh scripts/fuzz.sh

simulate: ## run the simulation over SEEDS (20000) seeds instead of the suite's 1000
	@SEEDS=$(SEEDS) sh scripts/simulate.sh

callbacks-long: ## hold the guard to 10 million addresses and callbacks to 100000 ends that race
	@sh scripts/callbacks-long.sh

streams-long: ## hold the streams of two replicas, in memory and on Postgres, to 1000 subscribers over 100000 events
	@sh scripts/streams-long.sh

crash-long: ## kill 200 replicas on one Postgres at random instants instead of the suite's 10, and move a reader between replicas 2000 times
	@WEBTRIGGER_KILLS=200 go test -count=1 -timeout 30m -v -run 'TestKillAtRandom|TestStreamAcrossReplicas' ./internal/crashtest

steps-long: ## kill an agent at each boundary of its steps, on SQLite and Postgres, instead of the suite's three boundaries
	@WEBTRIGGER_STEPS=all go test -count=1 -timeout 1h -parallel 8 -v -run TestAgent_killed ./internal/crashtest

outage-long: ## pause, stall and cut off stores for as long as in production (up to 2 minutes) instead of the suite's seconds
	@WEBTRIGGER_OUTAGE_LONG=1 go test -count=1 -timeout 30m -v ./internal/outagetest

chaos: ## the campaign: ROUNDS (50, or 10 where a round is long) rounds of each fault on three replicas and a replicated Postgres
	@WEBTRIGGER_CHAOS=$(or $(ROUNDS),all) go test -count=1 -tags chaos -timeout 12h -v -run TestCampaign ./internal/chaostest $(ARGS)

revocations-long: ## revoke 100000 keys while three replicas are asked with them, instead of the suite's 1000
	@WEBTRIGGER_REVOCATIONS=100000 go test -count=1 -timeout 2h -v -run TestRevocation ./internal/replicatest

input-long: ## 1000 different answers to one request over three replicas, and 1000 runs that wait, instead of the suite's few
	@WEBTRIGGER_INPUT_ANSWERS=1000 WEBTRIGGER_INPUT_WAITS=1000 go test -count=1 -timeout 30m -v -run 'TestAnswerInput_simultaneousOverReplicas|TestAskInput_manyWaitOnPostgres' ./internal/inputtest

lanes-long: ## 10000 runs of 10 conversations over replicas that are killed, and 100 racing interrupts, instead of the suite's few
	@WEBTRIGGER_LANE_RUNS=10000 WEBTRIGGER_LANE_INTERRUPTS=100 go test -count=1 -timeout 1h -v -run 'TestLane|TestInterrupt' ./internal/lanetest

recipes-n8n: ## execute the workflows of docs/recipes in a real n8n from npm (over a gigabyte)
	@sh scripts/recipes-n8n.sh

check-tables: ## compare the guard's address tables with what IANA publishes (needs the network)
	@sh scripts/check-tables.sh

bench: ## measure beside the peers, all paths or those of ARGS ('accept status -rounds 3')
	@go run ./bench $(or $(ARGS),all)

run: ## start the evaluation server
	@go run ./examples/server $(ARGS)

seed: ## fill a new SQLite file, seed.db or FILE, with 3000 realistic runs for the console
	@go run ./examples/seed -db $(or $(FILE),seed.db)

console-images: ## write the pictures of docs/console.md again
	@mkdir -p docs/images
	@cd e2e/browser && WEBTRIGGER_SCREENSHOTS="$(CURDIR)/docs/images" go test ./console -count=1 -run TestScreenshots

cover: ## measure how much of the library the suite covers, into .build/cover.html
	@sh scripts/cover.sh

tidy-check: ## check that every go.mod and go.sum is tidy
	@sh scripts/tidy-check.sh

vuln: ## look for known vulnerabilities that the code reaches
	@sh scripts/vuln.sh $(ARGS)

clean: ## remove what these targets wrote
	rm -rf .build

.PHONY: seed console-images help test test-short lint fmt fuzz simulate callbacks-long streams-long crash-long steps-long outage-long chaos revocations-long input-long lanes-long recipes-n8n check-tables bench run cover tidy-check vuln clean
