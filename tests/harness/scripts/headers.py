"""A script that asks for the headers of the request."""


def init():
    pass


def run(data, request_headers):
    return {"data": data, "type": type(request_headers).__name__, "headers": request_headers}
