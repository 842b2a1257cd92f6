"""A small web application: two regions, which an ini file configures, and a proxy that counts."""

import configparser
import json
from pathlib import Path

from dogpile.cache import make_region
from dogpile.cache.api import NO_VALUE
from dogpile.cache.proxy import ProxyBackend
from dogpile.cache.util import kwarg_function_key_generator, sha1_mangle_key
from flask import Flask, jsonify, request

SEEN = {"get": 0, "set": 0, "forecasts": 0, "stations": []}


class Counting(ProxyBackend):
    def get(self, key):
        SEEN["get"] += 1
        return self.proxied.get(key)

    def set(self, key, value):
        SEEN["set"] += 1
        self.proxied.set(key, value)


pages = make_region(key_mangler=sha1_mangle_key)
stations = make_region("stations", function_key_generator=kwarg_function_key_generator)
app = Flask(__name__)


@pages.cache_on_arguments(namespace="forecast", should_cache_fn=lambda page: "error" not in page)
def forecast(city, days=3):
    SEEN["forecasts"] += 1
    if city == "nowhere":
        return {"error": "no such city"}
    return {"city": city, "days": [f"{city} {day}" for day in range(days)]}


@stations.cache_multi_on_arguments(asdict=True)
def station(*names):
    SEEN["stations"] += names
    return {name: {"name": name, "height": len(name)} for name in names if name != "ghost"}


@app.get("/forecast/<city>")
def show_forecast(city):
    return jsonify(forecast(city, days=request.args.get("days", 3, int)))


@app.delete("/forecast/<city>")
def drop_forecast(city):
    forecast.invalidate(city, 3)
    return "", 204


@app.get("/stations")
def show_stations():
    return jsonify(station(*request.args["names"].split(",")))


@app.post("/stations/reset")
def reset_stations():
    stations.invalidate()
    return "", 204


@app.get("/peek/<key>")
def peek(key):
    found = stations.get(key)
    return jsonify(found=None if found is NO_VALUE else found, there=found is not NO_VALUE)


def configure(path):
    parser = configparser.ConfigParser()
    parser.read(path)
    for name, region in (("pages", pages), ("stations", stations)):
        region.configure_from_config(dict(parser["cache"]), f"{name}.")
    pages.wrap(Counting)
    app.config["TITLE"] = parser["app"]["title"]


def main():
    print("configured before:", pages.is_configured)
    configure(Path(__file__).with_name("cache.ini"))
    print(app.config["TITLE"], pages.is_configured, pages.expiration_time, stations.expiration_time)
    web = app.test_client()
    for method, path in [
        ("get", "/forecast/lima"),
        ("get", "/forecast/lima?days=3"),
        ("get", "/forecast/lima?days=1"),
        ("get", "/forecast/nowhere"),
        ("get", "/forecast/nowhere"),
        ("delete", "/forecast/lima"),
        ("get", "/forecast/lima"),
        ("get", "/stations?names=oslo,rome,ghost"),
        ("get", "/stations?names=rome,oslo,bern"),
        ("post", "/stations/reset"),
        ("get", "/stations?names=rome"),
        ("get", f"/peek/{__name__}:station|rome"),
        ("get", "/peek/nothing"),
    ]:
        answer = getattr(web, method)(path)
        print(method, path, answer.status_code, json.dumps(answer.get_json(silent=True), sort_keys=True))
    print(json.dumps(SEEN, sort_keys=True))
    print(sorted(pages.actual_backend._cache))


if __name__ == "__main__":
    main()
