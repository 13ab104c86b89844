# syntax=docker/dockerfile:1
# One static binary, no shell, not root. It sets no flag that weakens a guard.
FROM golang:1.26 AS build
WORKDIR /src
COPY go.mod go.sum ./
RUN go mod download
COPY . .
ARG VERSION=dev
RUN CGO_ENABLED=0 go build -trimpath -ldflags "-s -w -X main.version=${VERSION}" -o /out/flotilla ./cmd/flotilla \
 && mkdir -p /out/data

FROM scratch
COPY --from=build /out/flotilla /usr/local/bin/flotilla
COPY --from=build --chown=65532:65532 /out/data /var/lib/flotilla
COPY LICENSE /LICENSE
ENV PATH=/usr/local/bin FLOTILLA_DATA_DIR=/var/lib/flotilla
USER 65532:65532
WORKDIR /var/lib/flotilla
VOLUME /var/lib/flotilla
EXPOSE 1883 7400 8080
# Whether this node serves. Orchestrators should use /readyz, and no liveness probe: a node that restores much state must not be killed.
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s CMD ["flotilla", "check", "ready", "-q"]
ENTRYPOINT ["flotilla"]
CMD ["start"]
