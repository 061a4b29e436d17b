# syntax=docker/dockerfile:1
FROM golang:1.26-bookworm AS build
WORKDIR /src
COPY go.mod go.sum ./
RUN --mount=type=cache,target=/go/pkg/mod go mod download
COPY . .
ARG VERSION=dev
RUN --mount=type=cache,target=/go/pkg/mod --mount=type=cache,target=/root/.cache/go-build \
    CGO_ENABLED=0 go build -trimpath -ldflags "-s -w -X main.version=${VERSION}" -o /lanternist ./cmd/lanternist

FROM gcr.io/distroless/static-debian12:nonroot
COPY --from=build /lanternist /lanternist
WORKDIR /var/lib/lanternist
VOLUME /var/lib/lanternist
EXPOSE 8080
ENTRYPOINT ["/lanternist"]
CMD ["run", "--config", "/etc/lanternist/lanternist.yaml"]
