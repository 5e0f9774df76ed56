module wisp.dev/tests/bed/k3s

go 1.26.0
