# The hosted dashboard: hub models and the shipped demo, no local folders.
FROM python:3.11-slim
RUN useradd --create-home --uid 1000 user
USER user
ENV PATH=/home/user/.local/bin:$PATH \
    RLVIZ_MODE=hosted \
    RLVIZ_STORE=/home/user/store \
    HF_HUB_DISABLE_TELEMETRY=1
WORKDIR /home/user/app
COPY --chown=user requirements.txt .
RUN pip install --no-cache-dir --user -r requirements.txt
COPY --chown=user . .
RUN python -c "from rlviz.probes.coordinate import warm; warm()"
EXPOSE 8501
# Any unknown path answers 200 with the page itself, so the body must be looked at.
HEALTHCHECK CMD python -c "import urllib.request as u; assert u.urlopen('http://127.0.0.1:8501/_stcore/health').read() == b'ok'"
CMD ["python", "-m", "streamlit", "run", "app.py", "--server.port=8501", "--server.address=0.0.0.0", \
     "--server.headless=true", "--client.showErrorDetails=none"]
