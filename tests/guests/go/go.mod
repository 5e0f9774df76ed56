module wisp.dev/tests/guests/hello

go 1.21
